-- ARGV: id, now, which: any, or expired (what is live stays).
-- Returns live or gone, as the session was, and 1 if anything was removed.
local id = ARGV[1]
local found = header(KEYS[1], 'created', 'user', 'tags')
local standing = state(found, ARGV[2])
local live = standing == 'live' or standing == 'damaged'
if live and ARGV[3] == 'expired' then return {'live', 0} end
local members = leftovers(KEYS[6], id, found)
local removed = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
in_parts('ZREM', KEYS[6], members)
return {live and 'live' or 'gone', (removed > 0 or #members > 0) and 1 or 0}

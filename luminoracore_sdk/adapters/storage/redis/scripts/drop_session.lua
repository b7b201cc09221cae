-- needs: session index common
-- ARGV: id, now, which: any, or expired (a live session stays).
-- Returns 1 if the session was live, and 1 if anything was removed.
local id = ARGV[1]
local found = header('created', 'user', 'tags', 'active')
local standing = state(found, ARGV[2])
local is_live = standing == 'live' or standing == 'damaged'
if is_live and ARGV[3] == 'expired' then return {1, 0} end
check_session()
local members = leftovers(KEYS[6], id, found)
local removed = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
in_parts('ZREM', KEYS[6], members)
tell()
return {is_live and 1 or 0, (removed > 0 or #members > 0) and 1 or 0}

-- needs: session
-- KEYS: session. ARGV: now, fence. Returns ok, 1 if the latest lease has this fence, else 0; or absent; or damaged.
local found, refusal = live(ARGV[1], 'lease')
if not found then return refusal end
local fence, holder = string.match(found.lease, '^(%d+)%z%-?%d+%z(%Z+)$')
if fence ~= ARGV[2] then return {'ok', 0} end
redis.call('HSET', KEYS[1], 'lease', fence .. NUL .. ARGV[1] .. NUL .. holder)
return {'ok', 1}

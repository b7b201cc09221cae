-- needs: session common history
-- ARGV: now, now as a stamp, grace_ms, after. Returns ok, how many messages were removed; or absent; or damaged.
local found, refusal = changing_history(ARGV[1])
if not found then return refusal end
local after = tonumber(ARGV[4])
local left = math.min(found.last, after)
redis.call('HLEN', KEYS[3])
cut(found, after, false)
touch(found, left, ARGV[1], ARGV[2], ARGV[3])
return {'ok', found.last - left}

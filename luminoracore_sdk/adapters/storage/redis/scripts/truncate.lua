-- needs: session
-- ARGV: now, grace_ms, after. Returns ok, how many messages were removed; or absent; or damaged.
local now, after = ARGV[1], tonumber(ARGV[3])
local found, refusal = live_history(now)
if not found then return refusal end
local left = math.min(found.last, after)
redis.call('HLEN', KEYS[3])
cut(found.last, after, false)
local updated = later(found.updated, now)
redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', left)
if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
return {'ok', found.last - left}

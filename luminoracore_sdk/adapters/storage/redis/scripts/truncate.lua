-- needs: session
-- ARGV: now, grace_ms, after. Returns ok, how many messages were removed; or absent; or damaged.
local now, after = ARGV[1], tonumber(ARGV[3])
local found, refusal = live_history(now)
if not found then return refusal end
local last = found.last
local removed = math.max(0, last - after)
redis.call('HLEN', KEYS[3])  -- fails before anything is written if the key holds a value of another type
if removed > 0 and after == 0 then
  redis.call('UNLINK', KEYS[2], KEYS[3])
elseif removed > 0 then
  for from = after, last - 1, 500 do
    local ids = {}
    for _, element in ipairs(redis.call('LRANGE', KEYS[2], from, from + 499)) do
      ids[#ids + 1] = string.sub(element, 1, (string.find(element, NUL, 1, true) or 1) - 1)
    end
    redis.call('HDEL', KEYS[3], unpack(ids))
  end
  redis.call('LTRIM', KEYS[2], 0, after - 1)
end

local updated = later(found.updated, now)
redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', last - removed)
if removed > 0 then redis.call('HINCRBY', KEYS[1], 'history', 1) end
if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
return {'ok', removed}

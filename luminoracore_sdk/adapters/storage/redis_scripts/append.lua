-- ARGV: now, grace_ms, expected last position or '', then for each message its id and its element.
-- Returns ok, first and last position; or known, the position of each message or 0; or moved, last
-- position; or absent; or damaged.
local now = ARGV[1]
local found = header(KEYS[1])
local standing = state(found, now)
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end

local ids, elements = {}, {}
for number = 4, #ARGV, 2 do
  ids[#ids + 1] = ARGV[number]
  elements[#elements + 1] = ARGV[number + 1]
end
local positions, any = {'known'}, false
for number, position in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
  any = any or position
  positions[number + 1] = tonumber(position or 0) or 0
end
if any then return positions end

local last = tonumber(found.last)
if redis.call('LLEN', KEYS[2]) ~= last then return {'damaged'} end
if ARGV[3] ~= '' and ARGV[3] ~= found.last then return {'moved', last} end

redis.call('RPUSH', KEYS[2], unpack(elements))
local places = {}
for number, id in ipairs(ids) do
  places[#places + 1] = id
  places[#places + 1] = last + number
end
redis.call('HSET', KEYS[3], unpack(places))
local updated = later(found.updated, now)
redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', last + #ids)
if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
return {'ok', last + 1, last + #ids}

-- needs: session
-- ARGV: now, grace_ms, after, expected last position or ''; then each message's id and element.
-- Returns ok, the elements that were removed; or refused, the last position, the position of each message or 0;
-- or absent; or damaged.
local now, after = ARGV[1], tonumber(ARGV[3])
local found, refusal = live_history(now)
if not found then return refusal end
local last = found.last
local refused = last < after or (ARGV[4] ~= '' and tonumber(ARGV[4]) ~= last)
local ids, elements, places = {}, {}, {}
for at = 5, #ARGV, 2 do
  local number = #ids + 1
  ids[number], elements[number] = ARGV[at], ARGV[at + 1]
  places[2 * number - 1], places[2 * number] = ARGV[at], after + number
end
redis.call('HLEN', KEYS[3])
local positions = {}
if #ids > 0 then
  for number, position in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    positions[number] = tonumber(position or 0) or 0
    refused = refused or position
  end
end
if refused then return {'refused', last, positions} end

-- This write comes first: a server without memory refuses a script at its first write that needs some.
local updated = later(found.updated, now)
redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', after + #ids)
local removed = cut(last, after, true)
if #ids > 0 then
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
end
if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
return {'ok', removed}

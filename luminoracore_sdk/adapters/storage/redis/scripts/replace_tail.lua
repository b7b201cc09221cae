-- needs: session index summary history
-- ARGV: as for changing_history; after, expected last position or '', fence or ''; what the messages add as for fold;
-- then each message's id, element and index or ''.
-- Returns ok, the elements that were removed; or refused, the last position, the position of each message or 0, and
-- the latest fence; or absent; or damaged.
local after, fence = tonumber(ARGV[4]), ARGV[6]
local found, refusal = changing_history()
if not found then return refusal end
local last = found.last
local refused = last < after or (ARGV[5] ~= '' and tonumber(ARGV[5]) ~= last) or (fence ~= '' and fence ~= fence_of())
local ids, elements, places = {}, {}, {}
for at = 10, #ARGV, 3 do
  local number = #ids + 1
  ids[number], elements[number] = ARGV[at], ARGV[at + 1]
  places[2 * number - 1], places[2 * number] = ARGV[at], place(after + number, ARGV[at + 2])
end
redis.call('HLEN', KEYS[3])
local positions = {}
if #ids > 0 then
  for number, value in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    positions[number] = place_of(value)
    refused = refused or value
  end
end
if refused then return {'refused', last, positions, tonumber(fence_of())} end

-- This write comes first: a server without memory refuses a script at its first write that needs some.
redis.call('HSET', KEYS[1], 'last_position', after + #ids)
local removed = cut(found, after, true)
if #ids > 0 then
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
  fold(found, after, ARGV[7], ARGV[8], ARGV[9])
end
touch(found, after + #ids)
tell()
return {'ok', removed}

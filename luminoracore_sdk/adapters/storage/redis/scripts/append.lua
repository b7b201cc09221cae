-- needs: session index summary message_index
-- ARGV: as for changing_history; then for each append the last position that it expects or '', the fence or '',
-- what its messages add as for fold, their number, and each message's id, element and index. An append that is refused
-- leaves the others to be written.
-- Returns ok and for each append its last position, or {'known', the position of each message or 0}, or
-- {'fenced', the latest fence}, or {'moved', last position}; or absent; or damaged.
local found, refusal = changing_history()
if not found then return refusal end
local last = found.last

local function append(at, final)
  local expected, fence = ARGV[at], ARGV[at + 1]
  local ids, elements, places, indexes, indexed = {}, {}, {}, {}, false
  for number = 1, (final - at - 5) / 3 do
    local place = at + 3 + 3 * number
    ids[number], elements[number], indexes[number] = ARGV[place], ARGV[place + 1], ARGV[place + 2]
    indexed = indexed or indexes[number] ~= ''
    places[2 * number - 1], places[2 * number] = ARGV[place], last + number
  end

  local any, known = false, {'known'}
  for number, position in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    any = any or position
    known[number + 1] = tonumber(position or 0) or 0
  end
  if any then return known end
  if fence ~= '' and fence ~= fence_of() then return {'fenced', tonumber(fence_of())} end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  if indexed then redis.call('LLEN', KEYS[7]) end  -- fails here if the key holds a value of another type
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
  if indexed then push_index(KEYS[7], last, indexes) end
  fold(found, last, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  last = last + #ids
  return last
end

local reply, at = {'ok'}, 4
while ARGV[at] do
  local final = at + 5 + 3 * tonumber(ARGV[at + 5])
  reply[#reply + 1] = append(at, final)
  at = final + 1
end

if last > found.last then touch(found, last) end
return reply

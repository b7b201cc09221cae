-- needs: session index summary
-- ARGV: as for changing_history; then for each append the last position that it expects or '', the fence or '',
-- what its messages add as for fold, their number, and each message's id, element and index or ''. An append that is
-- refused leaves the others to be written.
-- Returns ok and for each append its last position, or {'known', the position of each message or 0}, or
-- {'fenced', the latest fence}, or {'moved', last position}; or absent; or damaged.
local found, refusal = changing_history()
if not found then return refusal end
local last = found.last

local function append(at, final)
  local expected, fence = ARGV[at], ARGV[at + 1]
  local ids, elements, places = {}, {}, {}
  for number = 1, (final - at - 5) / 3 do
    local word = at + 3 + 3 * number
    ids[number], elements[number] = ARGV[word], ARGV[word + 1]
    places[2 * number - 1], places[2 * number] = ARGV[word], place(last + number, ARGV[word + 2])
  end

  local any, known = false, {'known'}
  for number, value in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    any = any or value
    known[number + 1] = place_of(value)
  end
  if any then return known end
  if fence ~= '' and fence ~= fence_of() then return {'fenced', tonumber(fence_of())} end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
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

if last > found.last then
  touch(found, last)
  tell()
end
return reply

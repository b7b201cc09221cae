-- needs: session
-- ARGV: now, grace_ms; then for each append the last position that it expects or '', the number of its
-- messages, and each message's id and element. An append that is refused leaves the others to be written.
-- Returns ok and for each append its last position, or {'known', the position of each message or 0}, or
-- {'moved', last position}; or absent; or damaged.
local now = ARGV[1]
local found, refusal = live_history(now)
if not found then return refusal end
local last = found.last

local function append(expected, first, final)
  local ids, elements, places = {}, {}, {}
  for at = first, final, 2 do
    local number = #ids + 1
    ids[number], elements[number] = ARGV[at], ARGV[at + 1]
    places[2 * number - 1], places[2 * number] = ARGV[at], last + number
  end

  local any, known = false, {'known'}
  for number, position in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    any = any or position
    known[number + 1] = tonumber(position or 0) or 0
  end
  if any then return known end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
  last = last + #ids
  return last
end

local reply, at = {'ok'}, 3
while ARGV[at] do
  local final = at + 1 + 2 * tonumber(ARGV[at + 1])
  reply[#reply + 1] = append(ARGV[at], at + 2, final)
  at = final + 1
end

if last > found.last then
  local updated = later(found.updated, now)
  redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', last)
  if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
end
return reply

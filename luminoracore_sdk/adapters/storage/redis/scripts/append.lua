-- Goes on with the values that append_one, which stands before, has read, where that did not answer.
-- ARGV: now, grace_ms; then of each append the last position that it expects or '', how many messages it
-- has, and of each message its id and its element. One that is refused leaves the others to be done.
-- Returns of one append its last position; or known, the position of each message or 0; or moved, last
-- position. Of several, a list of these. Or absent; or damaged.
local now = ARGV[1]
local found = header_of(KEYS[1], values)
local standing = state(found, now)
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
local before = tonumber(found.last)
local last = before
if redis.call('LLEN', KEYS[2]) ~= last then return {'damaged'} end

-- Most appends are of one message: without lists, they take an eighth less of the server's time.
local function append_one(expected, id, element)
  local position = redis.call('HGET', KEYS[3], id)
  if position then return {'known', tonumber(position) or 0} end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  last = last + 1
  redis.call('RPUSH', KEYS[2], element)
  redis.call('HSET', KEYS[3], id, last)
  return last
end

local function append(expected, from, upto)
  local ids, elements, places = {}, {}, {}
  for at = from, upto, 2 do
    local number = #ids + 1
    ids[number], elements[number] = ARGV[at], ARGV[at + 1]
    places[2 * number - 1], places[2 * number] = ARGV[at], last + number
  end

  local any = false
  local positions = {'known'}
  for number, position in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    any = any or position
    positions[number + 1] = tonumber(position or 0) or 0
  end
  if any then return positions end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  last = last + #ids
  redis.call('RPUSH', KEYS[2], unpack(elements))
  redis.call('HSET', KEYS[3], unpack(places))
  return last
end

local answers, from = {}, 3
while ARGV[from] do
  local first, upto = from + 2, from + 1 + 2 * tonumber(ARGV[from + 1])
  answers[#answers + 1] = upto == first + 1 and append_one(ARGV[from], ARGV[first], ARGV[upto])
    or append(ARGV[from], first, upto)
  from = upto + 1
end

if last > before then
  local updated = later(found.updated, now)
  redis.call('HSET', KEYS[1], 'updated_at_us', updated, 'last_position', last)
  if found.ttl ~= '' then prolong(updated, found.ttl, now, ARGV[2]) end
end
return #answers == 1 and answers[1] or answers

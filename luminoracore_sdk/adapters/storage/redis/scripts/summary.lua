-- What the scripts that append or cut off messages share. KEYS are all those of a session. A brief is position, encoding
-- and data, joined by NUL, or ''. Counters are what was added to them: each time NUL, NUL, a name, NUL and a number. More is
-- put at their end, and now and then the numbers of one name become their sum.

-- Return counters with one number for each name. What is malformed stays, and what reads it notices.
local function summed(counters)
  local sums, names = {}, {}
  local rest = string.gsub(counters, '(%z%z%Z+%z)(-?%d+)', function(name, number)
    if not sums[name] then names[#names + 1] = name end
    sums[name] = (sums[name] or 0) + number
    return ''
  end)
  for number, name in ipairs(names) do
    names[number] = sums[name] == 0 and '' or name .. string.format('%.0f', sums[name])
  end
  return rest .. table.concat(names)
end

-- Return the header of a live history that is about to change, and what is to be written to it; else nil and the
-- reply. ARGV begin with now; the stamps of now, of a while ago and of in a while, as one word; grace_ms.
local function changing_history()
  local found, refusal = live_history(ARGV[1], 'active', 'counters', 'first_brief')
  if not found then return nil, refusal end
  if found.lacks then return nil, {'damaged'} end
  found.is_moving = string.sub(ARGV[2], 1, 16) > string.sub(found.active, 1, 16)
  if found.is_moving then check_sorted(KEYS[6]) end
  found.updated = later(found.updated, ARGV[1])
  found.writes = {'updated_at_us', found.updated}
  return found
end

local function write(found, field, value)
  local writes = found.writes
  local count = #writes
  writes[count + 1], writes[count + 2] = field, value
end

-- Return a brief whose place among messages is given, with its position: that of the message before them and the place.
local function placed(brief, behind)
  local ends = string.find(brief, NUL, 1, true)
  return (behind + string.sub(brief, 1, ends - 1)) .. string.sub(brief, ends)
end

-- Add to the summary what messages behind a position add: counters, and the first and last brief with its place, or ''.
local function fold(found, behind, counters, first, last)
  found.counters = found.counters .. counters
  if first ~= '' and found.first_brief == '' then
    found.first_brief = placed(first, behind)
    write(found, 'first_brief', found.first_brief)
  end
  if last ~= '' then write(found, 'last_brief', placed(last, behind)) end
end

-- Write what has changed of the header, and list the session under the time of the change.
local function touch(found, last)
  local step = math.max(8, #found.counters / 100)  -- messages: an append costs the same with hundreds of counters
  if math.floor(last / step) > math.floor(found.last / step) then found.counters = summed(found.counters) end
  if found.is_moving then write(found, 'active', move(found)) end
  redis.call('HSET', KEYS[1], 'last_position', last, 'counters', found.counters, unpack(found.writes))
  if found.ttl ~= '' then prolong(found.updated, found.ttl, ARGV[1], ARGV[3]) end
end

-- Return the position of each of some messages, 0 if it is not stored, and whether any is. Their ids are in ARGV.
local function positions_of(ids, count)
  local found, any = redis.call('HMGET', KEYS[3], unpack(ARGV, ids, ids + count - 1)), false
  for number = 1, count do
    any = any or found[number]
    found[number] = place_of(found[number])
  end
  return found, any
end

-- Store messages behind a position. Their ids are in ARGV, then their elements, then their indexes.
local function store(ids, count, behind)
  local elements, indexes, places = ids + count, ids + 2 * count, {}
  for number = 1, count do
    places[2 * number - 1] = ARGV[ids + number - 1]
    places[2 * number] = place(behind + number, ARGV[indexes + number - 1])
  end
  redis.call('RPUSH', KEYS[2], unpack(ARGV, elements, indexes - 1))
  redis.call('HSET', KEYS[3], unpack(places))
end

-- Return the fence of the latest lease as text; 0: there was none.
local function fence_of()
  return string.match(redis.call('HGET', KEYS[1], 'lease') or '', '^%d+') or '0'
end

-- Return the number of the latest change of what was stored before as text; 0: there was none.
local function latest_change()
  return string.match(redis.call('HGET', KEYS[1], 'changes') or '', '^%d+') or '0'
end

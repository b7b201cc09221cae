-- What the scripts that append or cut off messages share. KEYS are all those of a session. Each of the counters is NUL,
-- NUL, its name, NUL and its number. A brief is position, encoding and data, joined by NUL, or ''.

-- Add to one of the counters, whose name is given with the NULs around it, or remove it if the number is nil; a malformed
-- one stays, and what reads it notices. The others are not looked at: an append costs the same with hundreds of them.
local function add(found, name, number)
  local counters = found.counters
  local from, to = string.find(counters, name, 1, true)
  local stored = from and string.match(counters, '^-?%d+', to + 1)
  if from and not stored then return end
  number = number and number + (stored or 0) or 0
  local record = number == 0 and '' or name .. (math.abs(number) < 1e14 and number or string.format('%.0f', number))
  if from then
    found.counters = string.sub(counters, 1, from - 1) .. record .. string.sub(counters, to + #stored + 1)
  else
    found.counters = counters .. record
  end
end

-- Return the header of a live history that is about to change, and what is to be written to it; else nil and the
-- reply. ARGV begin with now; the stamps of now, of a while ago and of in a while, as one word; grace_ms.
local function changing_history()
  local found, refusal = live_history(ARGV[1], 'active', 'counters')
  if not found then return nil, refusal end
  if found.lacks then return nil, {'damaged'} end
  found.is_moving = string.sub(ARGV[2], 1, 16) > string.sub(found.active, 1, 16)
  if found.is_moving then check_sorted(KEYS[6]) end
  found.updated, found.writes = later(found.updated, ARGV[1]), {}
  return found
end

local function write(found, field, value)
  local count = #found.writes
  found.writes[count + 1], found.writes[count + 2] = field, value
end

-- Return a brief whose place among messages is given, with its position: that of the message before them and the place.
local function placed(brief, behind)
  local ends = string.find(brief, NUL, 1, true)
  return (behind + tonumber(string.sub(brief, 1, ends - 1))) .. string.sub(brief, ends)
end

-- Add to the summary what messages behind a position add: counters, and the first and last brief with its place, or ''.
local function fold(found, behind, counters, first, last)
  for name, number in string.gmatch(counters, '(%z%z%Z+%z)(-?%d+)') do add(found, name, number) end
  if first ~= '' and (found.first_brief or redis.call('HGET', KEYS[1], 'first_brief')) == '' then
    found.first_brief = placed(first, behind)
    write(found, 'first_brief', found.first_brief)
  end
  if last ~= '' then write(found, 'last_brief', placed(last, behind)) end
end

-- Write what has changed of the header, and list the session under the time of the change.
local function touch(found, last)
  if found.is_moving then write(found, 'active', move(found)) end
  redis.call('HSET', KEYS[1], 'updated_at_us', found.updated, 'last_position', last, 'counters', found.counters,
    unpack(found.writes))
  if found.ttl ~= '' then prolong(found.updated, found.ttl, ARGV[1], ARGV[3]) end
end

-- Return the fence of the latest lease as text; 0: there was none.
local function fence_of()
  return string.match(redis.call('HGET', KEYS[1], 'lease') or '', '^%d+') or '0'
end

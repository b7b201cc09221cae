-- What the scripts that change a history share. Counters are names and numbers in turn, joined by NUL. A brief is
-- position, encoding and data, joined by NUL, or ''. Changes are the number of the newest one, then each from the
-- oldest on as u(pdated) or c(ut) with its position, separated by spaces. A lease is fence, end and holder, joined by
-- NUL. KEYS are all those of a session.
local MOST_CHANGES = 32
local PAIR = '(%Z+)%z(%d+)'

-- Return counters as a table; nil if the text is malformed.
local function counters_of(text)
  local counters, size = {}, 0
  for name, number in string.gmatch(text, PAIR) do
    counters[name] = tonumber(number)
    size = size + #name + #number + 2
  end
  return size == (text == '' and 0 or #text + 1) and counters or nil
end

local function counters_text(counters)
  local parts = {}
  for name, number in pairs(counters) do
    parts[#parts + 1], parts[#parts + 2] = name, string.format('%.0f', number)
  end
  return table.concat(parts, NUL)
end

local function position_of(brief)
  return tonumber(string.match(brief, '^%d+')) or 0
end

-- Return the header of a live history that is about to change, and what is to be written to it; else nil and the
-- reply.
local function changing_history(now)
  local found, refusal = live_history(now, 'created', 'user', 'tags', 'active', 'counters', 'first_brief')
  if not found then return nil, refusal end
  found.counters = counters_of(found.counters)
  if found.active == '' or not found.counters then return nil, {'damaged'} end
  check_sorted(KEYS[6])
  found.writes = {}
  return found
end

local function write(found, field, value)
  local count = #found.writes
  found.writes[count + 1], found.writes[count + 2] = field, value
end

-- Add to the summary what messages behind a position add: counters, and briefs, whose positions count from there.
local function fold(found, behind, counters, first, last)
  for name, number in string.gmatch(counters, PAIR) do
    found.counters[name] = (found.counters[name] or 0) + tonumber(number)
  end
  local function placed(brief)
    return (behind + position_of(brief)) .. string.sub(brief, string.find(brief, NUL, 1, true), -1)
  end
  if first ~= '' and found.first_brief == '' then
    found.first_brief = placed(first)
    write(found, 'first_brief', found.first_brief)
  end
  if last ~= '' then write(found, 'last_brief', placed(last)) end
end

-- Write what has changed of the header, and list the session under the time of the change.
local function touch(found, last, now, stamp, grace_ms)
  local updated = later(found.updated, now)
  local active = updated == now and stamp or found.active
  write(found, 'updated_at_us', updated)
  write(found, 'active', active)
  write(found, 'last_position', last)
  write(found, 'counters', counters_text(found.counters))
  redis.call('HSET', KEYS[1], unpack(found.writes))
  if active ~= found.active then
    local id = string.sub(KEYS[1], string.find(KEYS[1], '}:session:', 1, true) + 10)
    relist(active_members(id, found, found.active), active_members(id, found, active))
  end
  if found.ttl ~= '' then prolong(updated, found.ttl, now, grace_ms) end
end

-- Return the text of the changes once another one is made: u or c, and its position.
local function noted(changes, kind, position)
  local number, list = 0, {}
  for word in string.gmatch(changes, '%S+') do
    if number == 0 then number = tonumber(word) else list[#list + 1] = word end
  end
  list[#list + 1] = kind .. position
  if #list > MOST_CHANGES then
    local lowest = math.huge
    for _, word in ipairs({table.remove(list, 1), list[1]}) do
      lowest = math.min(lowest, tonumber(string.sub(word, 2)) - (string.sub(word, 1, 1) == 'u' and 1 or 0))
    end
    list[1] = 'c' .. lowest
  end
  return (number + 1) .. ' ' .. table.concat(list, ' ')
end

-- Remove the messages above a position, also from the summary; return their elements if they are wanted. Call HLEN on
-- the ids before the first write: it fails if the key holds a value of another type.
local function cut(found, after, wanted)
  local taken, last = {}, found.last
  if last <= after then return taken end
  local counters = found.counters
  if after > 0 or wanted then
    for from = after, last - 1, 500 do
      local ids = {}
      for _, element in ipairs(redis.call('LRANGE', KEYS[2], from, math.min(from + 499, last - 1))) do
        local id, role = string.match(element, '^(%Z*)%z(%Z*)')
        ids[#ids + 1] = id or element
        if role and counters[role] then counters[role] = counters[role] > 1 and counters[role] - 1 or nil end
        if wanted then taken[#taken + 1] = element end
      end
      redis.call('HDEL', KEYS[3], unpack(ids))
    end
  end
  if after > 0 then
    redis.call('LTRIM', KEYS[2], 0, after - 1)
  else
    for _, role in ipairs({'user', 'assistant', 'system', 'tool'}) do counters[role] = nil end
    redis.call('UNLINK', KEYS[2], KEYS[3])
  end
  redis.call('HINCRBY', KEYS[1], 'history', 1)
  local texts = redis.call('HMGET', KEYS[1], 'last_brief', 'changes')
  if position_of(found.first_brief) > after then
    found.first_brief = ''
    write(found, 'first_brief', '')
  end
  if position_of(texts[1] or '') > after then write(found, 'last_brief', '') end
  write(found, 'changes', noted(texts[2] or '', 'c', after))
  return taken
end

-- Return the fence of the latest lease as text; 0: there was none.
local function fence_of()
  return string.match(redis.call('HGET', KEYS[1], 'lease') or '', '^%d+') or '0'
end

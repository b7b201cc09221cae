-- What the scripts that change stored messages share. Changes are the number of the newest one, then each from the oldest
-- on as u(pdated) or c(ut) with its position, separated by spaces.
local MOST_CHANGES = 32

local function position_of(brief)
  return tonumber(string.match(brief, '^%d+')) or 0
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
  local taken, last, roles = {}, found.last, {}
  if last <= after then return taken end
  if after > 0 or wanted then
    for from = after, last - 1, 500 do
      local ids = {}
      for _, element in ipairs(redis.call('LRANGE', KEYS[2], from, math.min(from + 499, last - 1))) do
        local id, role = string.match(element, '^(%Z*)%z(%Z*)')
        ids[#ids + 1] = id or element
        if role then roles[role] = (roles[role] or 0) - 1 end
        if wanted then taken[#taken + 1] = element end
      end
      redis.call('HDEL', KEYS[3], unpack(ids))
    end
  end
  if after > 0 then
    redis.call('LTRIM', KEYS[2], 0, after - 1)
    for role, number in pairs(roles) do found.counters = found.counters .. NUL .. NUL .. role .. NUL .. number end
  else
    for _, role in ipairs({'user', 'assistant', 'system', 'tool'}) do
      found.counters = string.gsub(found.counters, '%z%z' .. role .. '%z%-?%d+', '')
    end
    redis.call('UNLINK', KEYS[2], KEYS[3])
  end
  found.counters = summed(found.counters)
  redis.call('HINCRBY', KEYS[1], 'history', 1)
  local values = redis.call('HMGET', KEYS[1], 'last_brief', 'changes')
  if position_of(found.first_brief) > after then
    found.first_brief = ''
    write(found, 'first_brief', '')
  end
  if position_of(values[1] or '') > after then write(found, 'last_brief', '') end
  write(found, 'changes', noted(values[2] or '', 'c', after))
  return taken
end

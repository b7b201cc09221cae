-- What every script begins with. KEYS of a session: session, messages, ids, memories, retention, index.
-- Times are passed as decimal text: Lua's numbers are doubles, which hold microseconds exactly only until the
-- year 2255. Stamps (16 hexadecimal digits) are compared as text.
local NUL = '\0'

-- Return the header, with those of its other fields that are named, and whether it lacks any of these; nil if there is
-- none.
local function header(...)
  local values = redis.call('HMGET', KEYS[1], 'version', 'updated_at_us', 'ttl_us', 'last_position', ...)
  if not values[1] and redis.call('EXISTS', KEYS[1]) == 0 then return nil end
  local found = {version = values[1], updated = values[2], ttl = values[3], last = values[4], lacks = false}
  for number, name in ipairs({...}) do
    found[name] = values[4 + number] or ''
    if not values[4 + number] then found.lacks = true end
  end
  return found
end

-- Split a number of up to 64 bits into two that a double holds exactly: thousand millions, and the rest.
local function halves(text)
  local sign, digits = 1, text
  if string.sub(text, 1, 1) == '-' then sign, digits = -1, string.sub(text, 2) end
  return sign * (tonumber(string.sub(digits, 1, -10)) or 0), sign * tonumber(string.sub(digits, -9))
end

-- Return one + other - third, which is exact as long as it is near 0.
local function sum(one, other, third)
  local a_high, a_low = halves(one)
  local b_high, b_low = halves(other)
  local c_high, c_low = halves(third)
  return (a_high + b_high - c_high) * 1e9 + (a_low + b_low - c_low)
end

local function later(one, other)
  if #one == 16 and #other == 16 then return one > other and one or other end  -- from 2001 to 2286
  return sum(one, '0', other) > 0 and one or other
end

-- Return absent, live, expired or damaged.
local function state(found, now)
  if not found then return 'absent' end
  if not (found.version and tonumber(found.updated or '') and tonumber(found.last or '') and found.ttl) then
    return 'damaged'
  end
  if found.ttl == '' then return 'live' end
  if not tonumber(found.ttl) then return 'damaged' end
  return sum(found.updated, found.ttl, now) > 0 and 'live' or 'expired'
end

-- Return the header of a live session with the fields that are named; else nil and the reply, {'absent'} or
-- {'damaged'}.
local function live(now, ...)
  local found = header(...)
  local standing = state(found, now)
  if standing == 'live' then return found end
  return nil, {standing == 'damaged' and standing or 'absent'}
end

-- The same, if the list holds as many messages as the header says.
local function live_history(now, ...)
  local found, refusal = live(now, ...)
  if not found then return nil, refusal end
  found.last = tonumber(found.last)
  if redis.call('LLEN', KEYS[2]) ~= found.last then return nil, {'damaged'} end
  return found
end

-- The ids of a session are a hash: each id has the position of its message, and behind NUL its index, if it has one.
local function place(position, index)
  return index == '' and position or (position .. NUL .. index)
end

-- Return position and index of a place, 0 and '' if there is none.
local function place_of(value)
  if not value then return 0, '' end
  local position, index = string.match(value, '^(%d+)%z?(.*)$')
  return tonumber(position) or 0, index or ''
end

-- Let the server remove all keys of a session at one moment, which is not before the session expires.
local function prolong(updated, ttl, now, grace_ms)
  local left_ms = string.format('%.0f', math.ceil(sum(updated, ttl, now) / 1000) + tonumber(grace_ms))
  for number = 1, 5 do redis.call('PEXPIRE', KEYS[number], left_ms) end
end

-- Wake those that watch the session on this server; it may not be allowed to.
local function tell()
  local count = redis.pcall('PUBSUB', 'NUMSUB', KEYS[1])[2]
  if count and count > 0 then redis.pcall('PUBLISH', KEYS[1], '') end
end

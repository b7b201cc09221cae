-- What every script begins with. KEYS of a session: session, messages, ids, memories, retention, index.
-- Times are passed as decimal text: Lua's numbers are doubles, which hold microseconds exactly only until the
-- year 2255. Stamps (16 hexadecimal digits) are compared as text.
local NUL = '\0'

-- Return the header, with those of created, user, tags that are named, in this order; nil if there is none.
local function header(...)
  local found = redis.call('HMGET', KEYS[1], 'version', 'updated_at_us', 'ttl_us', 'last_position', ...)
  if not found[1] and redis.call('EXISTS', KEYS[1]) == 0 then return nil end
  return {
    version = found[1], updated = found[2], ttl = found[3], last = found[4],
    created = found[5] or '', user = found[6] or '', tags = found[7] or '',
  }
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

-- Return the header of a live session; else nil and the reply, {'absent'} or {'damaged'}.
local function live(now)
  local found = header()
  local standing = state(found, now)
  if standing == 'live' then return found end
  return nil, {standing == 'damaged' and standing or 'absent'}
end

-- The same, if the list holds as many messages as the header says.
local function live_history(now)
  local found, refusal = live(now)
  if not found then return nil, refusal end
  found.last = tonumber(found.last)
  if redis.call('LLEN', KEYS[2]) ~= found.last then return nil, {'damaged'} end
  return found
end

-- Let the server remove all keys of a session at one moment, which is not before the session expires.
local function prolong(updated, ttl, now, grace_ms)
  local left_ms = string.format('%.0f', math.ceil(sum(updated, ttl, now) / 1000) + tonumber(grace_ms))
  for number = 1, 5 do redis.call('PEXPIRE', KEYS[number], left_ms) end
end

-- Remove the messages of a history above a position; return their elements if they are wanted. Call HLEN on the
-- ids before the first write: it fails if the key holds a value of another type.
local function cut(last, after, wanted)
  local taken = {}
  if last <= after then return taken end
  if after > 0 or wanted then
    for from = after, last - 1, 500 do
      local ids = {}
      for _, element in ipairs(redis.call('LRANGE', KEYS[2], from, math.min(from + 499, last - 1))) do
        ids[#ids + 1] = string.sub(element, 1, (string.find(element, NUL, 1, true) or 1) - 1)
        if wanted then taken[#taken + 1] = element end
      end
      redis.call('HDEL', KEYS[3], unpack(ids))
    end
  end
  if after > 0 then
    redis.call('LTRIM', KEYS[2], 0, after - 1)
  else
    redis.call('UNLINK', KEYS[2], KEYS[3])
  end
  redis.call('HINCRBY', KEYS[1], 'history', 1)
  return taken
end

-- Stands before every script. KEYS of a session: session, messages, ids, memories, retention, index.
-- Times come and go as decimal text, for Lua's numbers are doubles, which hold microseconds exactly up
-- to the year 2255 only. Stamps (16 hexadecimal digits) are compared as text.
local NUL = '\0'

-- A header of its values: what decides whether a session is live, and what else was asked for.
local function header_of(key, found)
  if not found[1] and redis.call('EXISTS', key) == 0 then return nil end
  return {
    version = found[1], updated = found[2], ttl = found[3], last = found[4],
    created = found[5] or '', user = found[6] or '', tags = found[7] or '',
  }
end

-- The header; of created, user, tags what is named, in this order.
local function header(key, ...)
  return header_of(key, redis.call('HMGET', key, 'version', 'updated_at_us', 'ttl_us', 'last_position', ...))
end

-- A number of up to 64 bits as two that a double holds exactly: thousand millions, and the rest.
local function halves(text)
  local sign, digits = 1, text
  if string.sub(text, 1, 1) == '-' then sign, digits = -1, string.sub(text, 2) end
  return sign * (tonumber(string.sub(digits, 1, -10)) or 0), sign * tonumber(string.sub(digits, -9))
end

-- one + other - third: exact as long as it is near 0.
local function sum(one, other, third)
  local a_high, a_low = halves(one)
  local b_high, b_low = halves(other)
  local c_high, c_low = halves(third)
  return (a_high + b_high - c_high) * 1e9 + (a_low + b_low - c_low)
end

-- absent, live, expired or damaged
local function state(found, now)
  if not found then return 'absent' end
  if not (found.version and tonumber(found.updated or '') and tonumber(found.last or '') and found.ttl) then
    return 'damaged'
  end
  if found.ttl == '' then return 'live' end
  if not tonumber(found.ttl) then return 'damaged' end
  return sum(found.updated, found.ttl, now) > 0 and 'live' or 'expired'
end

local function later(one, other)
  -- of as many digits, text sorts as the numbers do; string.byte of '-' is 45
  if #one == #other and string.byte(one) ~= 45 and string.byte(other) ~= 45 then
    return one > other and one or other
  end
  return sum(one, '0', other) > 0 and one or other
end

-- Let the server forget all keys of a session at one moment, which is not before its end.
local function prolong(updated, ttl, now, grace_ms)
  local left_ms = string.format('%.0f', math.ceil(sum(updated, ttl, now) / 1000) + tonumber(grace_ms))
  for number = 1, 5 do redis.call('PEXPIRE', KEYS[number], left_ms) end
end

-- Stands before every script. KEYS of a session: session, messages, ids, memories, retention, index.
-- Times come and go as decimal text, for Lua's numbers are doubles, which hold microseconds exactly up
-- to the year 2255 only. Stamps (16 hexadecimal digits) are compared as text.
local NUL = '\0'

local function split(text)
  local parts, from = {}, 1
  while true do
    local at = string.find(text, NUL, from, true)
    if not at then
      parts[#parts + 1] = string.sub(text, from)
      return parts
    end
    parts[#parts + 1] = string.sub(text, from, at - 1)
    from = at + 1
  end
end

-- Where a record goes on behind so many fields, each ended by NUL; nil if it has fewer.
local function behind(record, fields)
  local at = 0
  for _ = 1, fields do
    at = string.find(record, NUL, at + 1, true)
    if not at then return nil end
  end
  return at + 1
end

-- Lua's stack has room for some thousand arguments only.
local function in_parts(command, key, list)
  for from = 1, #list, 500 do
    redis.call(command, key, unpack(list, from, math.min(from + 499, #list)))
  end
end

local function zadd(index, members)
  local pairs_of = {}
  for _, member in ipairs(members) do
    pairs_of[#pairs_of + 1] = 0
    pairs_of[#pairs_of + 1] = member
  end
  in_parts('ZADD', index, pairs_of)
end

-- Fails, before anything is written, where something else stands in the place of a sorted set.
local function check_sorted(key)
  redis.call('ZRANGE', key, 0, 0)
end

-- Index members that begin with a text, which must end with NUL.
local function beginning_with(index, text)
  return redis.call('ZRANGE', index, '[' .. text, '(' .. string.sub(text, 1, -2) .. '\1', 'BYLEX')
end

local function header(key)
  local found = redis.call('HMGET', key,
    'version', 'updated_at_us', 'ttl_us', 'created', 'user', 'tags', 'last_position')
  if not found[1] and redis.call('EXISTS', key) == 0 then return nil end
  return {
    version = found[1], updated = found[2], ttl = found[3], created = found[4] or '',
    user = found[5] or '', tags = found[6] or '', last = found[7],
  }
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
  return sum(one, '0', other) > 0 and one or other
end

-- All index members of a session: a(ll), u(ser), t(ag), and x (expires), which holds what the others
-- are made of, for the time when the server has let the header go.
local function members_of(id, created, user, tags, ttl)
  local place = NUL .. created .. NUL .. id
  local members = {'a' .. place}
  if user ~= '' then members[#members + 1] = 'u' .. NUL .. user .. place end
  if tags ~= '' then
    for _, tag in ipairs(split(tags)) do members[#members + 1] = 't' .. NUL .. tag .. place end
  end
  if ttl ~= '' then
    members[#members + 1] = 'x' .. NUL .. id .. NUL .. created .. NUL .. user .. NUL .. tags
  end
  return members
end

-- Index members that may still be there of a session that is not live.
local function leftovers(index, id, found)
  local members = found and members_of(id, found.created, found.user, found.tags, found.ttl or '') or {}
  for _, expiring in ipairs(beginning_with(index, 'x' .. NUL .. id .. NUL)) do
    local parts = split(expiring)
    local tags = table.concat(parts, NUL, 5)
    for _, member in ipairs(members_of(id, parts[3], parts[4], tags, '0')) do
      members[#members + 1] = member
    end
  end
  for _, member in ipairs(beginning_with(index, 'm' .. NUL .. 's' .. NUL .. id .. NUL)) do
    members[#members + 1] = member
  end
  return members
end

-- Let the server forget all keys of a session at one moment, which is not before its end.
local function prolong(updated, ttl, now, grace_ms)
  local left_ms = string.format('%.0f', math.ceil(sum(updated, ttl, now) / 1000) + tonumber(grace_ms))
  for number = 1, 5 do redis.call('PEXPIRE', KEYS[number], left_ms) end
end

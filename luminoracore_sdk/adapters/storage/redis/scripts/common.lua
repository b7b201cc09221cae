-- Stands before the scripts that need more than what all need: on indexes, and on long lists.
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

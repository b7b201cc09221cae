-- Functions on indexes and long lists, for the scripts that name this file in their first line.
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

-- Return where a record continues after a number of fields, each ended by NUL; nil if it has fewer.
local function behind(record, fields)
  local at = 0
  for _ = 1, fields do
    at = string.find(record, NUL, at + 1, true)
    if not at then return nil end
  end
  return at + 1
end

local function check_session()
  redis.call('LLEN', KEYS[2])
  redis.call('HLEN', KEYS[3])
  redis.call('HLEN', KEYS[4])
  check_sorted(KEYS[5])
  check_sorted(KEYS[6])
end

-- Return the members of an index that begin with a text, which must end with NUL.
local function beginning_with(index, text)
  return redis.call('ZRANGE', index, '[' .. text, '(' .. string.sub(text, 1, -2) .. '\1', 'BYLEX')
end

-- Return all index members of a session: those, and a(ll), u(ser), t(ag), which name the time of its creation.
local function members_of(id, found)
  local members = active_members(id, found, found.active)
  local rest = NUL .. found.created .. NUL .. id
  members[#members + 1] = 'a' .. rest
  if found.user ~= '' then members[#members + 1] = 'u' .. NUL .. found.user .. rest end
  if found.tags ~= '' then
    for _, tag in ipairs(split(found.tags)) do members[#members + 1] = 't' .. NUL .. tag .. rest end
  end
  return members
end

-- Return the index members that may be left of a session that is not live.
local function leftovers(index, id, found)
  local members = found and members_of(id, found) or {}
  for _, expiring in ipairs(beginning_with(index, 'x' .. NUL .. id .. NUL)) do
    local parts = split(expiring)
    local gone = {created = parts[3], active = parts[4], user = parts[5], tags = table.concat(parts, NUL, 6), ttl = '0'}
    for _, member in ipairs(members_of(id, gone)) do members[#members + 1] = member end
  end
  for _, kind in ipairs({'m', 'n'}) do
    for _, member in ipairs(beginning_with(index, kind .. NUL .. 's' .. NUL .. id .. NUL)) do
      members[#members + 1] = member
    end
  end
  return members
end

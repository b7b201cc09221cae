-- How a session is listed by the time of its last change.
-- Fail before anything is written if the key holds a value of another type.
local function check_sorted(key)
  redis.call('ZRANGE', key, 0, 0)
end

-- Lua's stack takes only some thousand arguments.
local function in_parts(command, key, list)
  for from = 1, #list, 500 do
    redis.call(command, key, unpack(list, from, math.min(from + 499, #list)))
  end
end

-- The header names the time of the last change under which the session is listed, as a stamp, and how many changes
-- in a row came quickly after the one before. A session that changes so often is not listed anew each time: it is listed
-- as hot, under a time up to which its further changes do not touch the index.
local QUICK_CHANGES = 8

-- Return the index members of a session that name the time of its last change: A(ll), U(ser) and T(ag), with an h in
-- front if it is hot, and x (expires). The last one holds what the others are made of, for the time when the server has
-- removed the header.
local function active_members(id, found, active)
  local hot = tonumber(string.sub(active, 17)) == QUICK_CHANGES and 'h' or ''
  local rest = NUL .. string.sub(active, 1, 16) .. NUL .. id
  local members = {hot .. 'A' .. rest}
  if found.user ~= '' then members[#members + 1] = hot .. 'U' .. NUL .. found.user .. rest end
  if found.tags ~= '' then
    for tag in string.gmatch(found.tags, '%Z+') do members[#members + 1] = hot .. 'T' .. NUL .. tag .. rest end
  end
  if found.ttl ~= '' then
    members[#members + 1] = table.concat({'x', id, found.created, active, found.user, found.tags}, NUL)
  end
  return members
end

-- Replace index members.
local function relist(stale, members)
  local stays, scored = {}, {}
  for _, member in ipairs(stale) do stays[member] = true end
  for _, member in ipairs(members) do
    if stays[member] then
      stays[member] = nil
    else
      scored[#scored + 1], scored[#scored + 2] = 0, member
    end
  end
  local gone = {}
  for member in pairs(stays) do gone[#gone + 1] = member end
  in_parts('ZREM', KEYS[6], gone)
  in_parts('ZADD', KEYS[6], scored)
end

-- List a session under the time of a change; return what its header is to say of it. ARGV are as for changing_history.
local function move(found)
  local now, ago, ahead = string.match(ARGV[2], '^(%x+) (%x+) (%x+)$')
  local quick = ago < found.active and math.min(tonumber(string.sub(found.active, 17)) + 1, QUICK_CHANGES) or 0
  local active = (quick < QUICK_CHANGES and now or ahead) .. quick
  local id = string.sub(KEYS[1], string.find(KEYS[1], '}:session:', 1, true) + 10)
  local named = redis.call('HMGET', KEYS[1], 'created', 'user', 'tags')
  found.created, found.user, found.tags = named[1] or '', named[2] or '', named[3] or ''
  relist(active_members(id, found, found.active), active_members(id, found, active))
  return active
end

-- needs: session index common
-- For a fork, KEYS[7] and KEYS[8] are messages and ids that take effect now, and KEYS[9], if there is one, the header
-- of the session from which they were copied.
-- ARGV: id, now, now as a stamp, grace_ms, expected version or '', user or '', tags, ttl or '', created, encoding,
-- payload, card or ''; and for a session that begins here: counters, first and last brief or '', last position, a number
-- that no other history of this id begins with, and for a fork the number of the history that was copied.
-- Returns ok, version, created, updated, last position, counters, first and last brief; or conflict, version; or
-- changed: what was copied, or the copy, is no longer there; or damaged.
local function refused(...)
  if KEYS[7] then redis.call('UNLINK', KEYS[7], KEYS[8]) end
  return {...}
end

local id, now, expected = ARGV[1], ARGV[2], ARGV[5]
local put = {user = ARGV[6], tags = ARGV[7], ttl = ARGV[8], created = ARGV[9], active = ARGV[3] .. '0'}
local before = header('created', 'user', 'tags', 'active', 'counters', 'first_brief', 'last_brief')
local standing = state(before, now)
local is_live = standing == 'live'
if standing == 'damaged' or (is_live and before.lacks) then return refused('damaged') end
local version = is_live and before.version or '0'
if expected ~= '' and expected ~= version then return refused('conflict', version) end
if KEYS[7] and redis.call('LLEN', KEYS[7]) ~= tonumber(ARGV[16]) then return refused('changed') end
if KEYS[9] and redis.call('HGET', KEYS[9], 'history') ~= ARGV[18] then return refused('changed') end

check_session()
local updated, last, stale = now, ARGV[16], nil
local summary = {ARGV[13], ARGV[14], ARGV[15]}
if is_live then
  updated, last, put.created = later(before.updated, now), before.last, before.created
  summary = {before.counters, before.first_brief, before.last_brief}
  if updated ~= now then put.active = before.active end
  stale = members_of(id, before)
else
  stale = leftovers(KEYS[6], id, before)
end
version = string.format('%.0f', tonumber(version) + 1)

-- This write comes first: a server without memory refuses a script at its first write that needs some.
redis.call('HSET', KEYS[1], 'user', put.user, 'tags', put.tags, 'ttl_us', put.ttl, 'created', put.created,
  'updated_at_us', updated, 'active', put.active, 'version', version, 'last_position', last,
  'encoding', ARGV[10], 'payload', ARGV[11], 'card', ARGV[12])
if not is_live then
  redis.call('HSET', KEYS[1], 'counters', summary[1], 'first_brief', summary[2], 'last_brief', summary[3],
    'history', ARGV[17])
  redis.call('HDEL', KEYS[1], 'changes', 'lease')
  if before or #stale > 0 then redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5]) end
  if KEYS[7] and last ~= '0' then
    for number = 2, 3 do
      redis.call('RENAME', KEYS[number + 5], KEYS[number])
      redis.call('PERSIST', KEYS[number])
    end
  end
end
relist(stale, members_of(id, put))

if put.ttl ~= '' then
  prolong(updated, put.ttl, now, ARGV[4])
elseif before and before.ttl ~= '' then
  for number = 1, 5 do redis.call('PERSIST', KEYS[number]) end
end
return {'ok', version, put.created, updated, last, unpack(summary)}

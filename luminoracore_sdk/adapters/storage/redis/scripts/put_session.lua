-- needs: session common
-- ARGV: id, now, grace_ms, expected version or '', user or '', tags, ttl or '', created, encoding, payload,
-- a number that no other history of this id begins with.
-- Returns ok, version, created, updated, last position; or conflict, version; or damaged.
local id, now, expected = ARGV[1], ARGV[2], ARGV[4]
local user, tags, ttl, created = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local before = header('created', 'user', 'tags')
local standing = state(before, now)
if standing == 'damaged' then return {standing} end
local is_live = standing == 'live'
local version = is_live and before.version or '0'
if expected ~= '' and expected ~= version then return {'conflict', version} end

check_session()
local updated, last, stale = now, '0', nil
if is_live then
  created, last, updated = before.created, before.last, later(before.updated, now)
  stale = members_of(id, created, before.user, before.tags, before.ttl)
else
  stale = leftovers(KEYS[6], id, before)
end
version = string.format('%.0f', tonumber(version) + 1)

-- This write comes first: a server without memory refuses a script at its first write that needs some.
redis.call('HSET', KEYS[1], 'user', user, 'tags', tags, 'ttl_us', ttl, 'created', created,
  'updated_at_us', updated, 'version', version, 'last_position', last, 'encoding', ARGV[9], 'payload', ARGV[10])
if not is_live then
  redis.call('HSET', KEYS[1], 'history', ARGV[11])
  if before or #stale > 0 then redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5]) end
end

local members = members_of(id, created, user, tags, ttl)
if table.concat(stale, '\1') ~= table.concat(members, '\1') then
  in_parts('ZREM', KEYS[6], stale)
  for _, member in ipairs(members) do redis.call('ZADD', KEYS[6], 0, member) end
end

if ttl ~= '' then
  prolong(updated, ttl, now, ARGV[3])
elseif before and before.ttl ~= '' then
  for number = 1, 5 do redis.call('PERSIST', KEYS[number]) end
end
return {'ok', version, created, updated, last}

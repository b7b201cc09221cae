-- ARGV: kind, owner, key, now, now as a stamp, grace_ms, created, expires or '', retention, tag and
-- payload, most entries or ''. Returns ok, created; or absent; or damaged.
local kind, owner, key, now, stamp = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local created, expires, kept = ARGV[7], ARGV[8], ARGV[9]
local found
if of_session then
  found = header(KEYS[1])
  local standing = state(found, now)
  if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
end

check_sorted(retention)
check_sorted(index)
local before = read_memory(key)
if before and not is_over(before.expires, stamp) then created = before.created end
redis.call('HSET', memories, key, table.concat({created, stamp, expires, kept, ARGV[10]}, NUL))
if before then
  redis.call('ZREM', retention, before.updated .. NUL .. key)
  if before.expires ~= '' then
    redis.call('ZREM', index, expiring(kind, owner) .. before.expires .. NUL .. key)
  end
end
redis.call('ZADD', retention, kept, stamp .. NUL .. key)
if expires ~= '' then redis.call('ZADD', index, 0, expiring(kind, owner) .. expires .. NUL .. key) end

if ARGV[11] ~= '' then
  local most = tonumber(ARGV[11])
  if redis.call('HLEN', memories) > most then
    for _, member in ipairs(over(kind, owner, stamp)) do
      local name = split(member)[5]
      if name ~= key then forget(kind, owner, name, read_memory(name) or {updated = '', expires = ''}) end
    end
  end
  local surplus = redis.call('HLEN', memories) - most
  if surplus > 0 then
    for _, member in ipairs(redis.call('ZRANGE', retention, 0, surplus)) do
      local name = split(member)[2]
      if name ~= key and surplus > 0 then
        forget(kind, owner, name, read_memory(name) or {updated = '', expires = ''})
        surplus = surplus - 1
      end
    end
  end
end

if found and found.ttl ~= '' then prolong(found.updated, found.ttl, now, ARGV[6]) end
return {'ok', created}

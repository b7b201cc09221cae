-- needs: session index common memory
-- ARGV: kind, owner, key, now, now as a stamp, grace_ms, created, expires or '', retention, encoding and
-- payload, most entries or ''. Returns ok, created; or absent; or damaged.
local key, now, stamp, created, expires = ARGV[3], ARGV[4], ARGV[5], ARGV[7], ARGV[8]
local found, refusal
if of_session then
  found, refusal = live(now)
  if not found then return refusal end
end

check_sorted(retention)
check_sorted(index)
local before = read_memory(key)
if before and not is_expired(before.expires, stamp) then created = before.created end
redis.call('HSET', memories, key, table.concat({created, stamp, expires, ARGV[9], ARGV[10]}, NUL))
if before then unlist(key, before) end
redis.call('ZADD', retention, ARGV[9], stamp .. NUL .. key)
if expires ~= '' then redis.call('ZADD', index, 0, expiring .. expires .. NUL .. key) end
if not of_session then redis.call('ZADD', index, 0, owner_member) end

local most = tonumber(ARGV[11]) or math.huge
if redis.call('HLEN', memories) > most then
  for _, member in ipairs(expired_members(stamp)) do
    local name = split(member)[5]
    if name ~= key then forget(name) end
  end
  local surplus = redis.call('HLEN', memories) - most
  for _, member in ipairs(surplus > 0 and redis.call('ZRANGE', retention, 0, surplus) or {}) do
    local name = split(member)[2]
    if name ~= key and surplus > 0 then
      forget(name)
      surplus = surplus - 1
    end
  end
end

if found and found.ttl ~= '' then prolong(found.updated, found.ttl, now, ARGV[6]) end
return {'ok', created}

-- needs: session index common memory
-- ARGV: kind, owner, now, now as a stamp, grace_ms, most entries or '', number of puts; for each put key, expected
-- version or '', created, expires or '', retention, encoding and payload; then the keys to delete.
-- Returns ok, created and version of each put; or conflict, the number of the put, the version; or absent; or damaged.
local now, stamp, count, session, refusal = ARGV[3], ARGV[4], tonumber(ARGV[7]), nil, nil
if of_session then
  session, refusal = live(now)
  if not session then return refusal end
end
check_sorted(retention)
check_sorted(index)

local puts, is_put, reply = {}, {}, {'ok'}
for number = 1, count do
  local key, expected, created, expires, rank, payload = unpack(ARGV, 2 + 6 * number, 7 + 6 * number)
  local before, version = read_memory(key), '0'
  if before and not is_expired(before.expires, stamp) then created, version = before.created, before.version end
  if expected ~= '' and expected ~= version then return {'conflict', number, version} end
  version = string.format('%.0f', tonumber(version) + 1)
  local record = table.concat({created, stamp, expires, rank, version, payload}, NUL)
  puts[number] = {key = key, before = before, expires = expires, rank = rank, record = record}
  is_put[key] = true
  reply[2 * number], reply[2 * number + 1] = created, version
end

for _, put in ipairs(puts) do
  redis.call('HSET', memories, put.key, put.record)
  if put.before then unlist(put.key, put.before) end
  redis.call('ZADD', retention, put.rank, stamp .. NUL .. put.key)
  redis.call('ZADD', index, 0, naming .. put.key)
  if put.expires ~= '' then redis.call('ZADD', index, 0, expiring .. put.expires .. NUL .. put.key) end
end
if count > 0 and not of_session then redis.call('ZADD', index, 0, owner_member) end
for number = 8 + 6 * count, #ARGV do forget(ARGV[number]) end

local most = tonumber(ARGV[6]) or math.huge
local below = '(1e300'  -- NEVER_EVICTED
if redis.call('ZCOUNT', retention, '-inf', below) > most then
  for _, member in ipairs(expired_members(stamp)) do
    local name = split(member)[5]
    if not is_put[name] then forget(name) end
  end
  local surplus = math.max(redis.call('ZCOUNT', retention, '-inf', below) - most, 0)
  for _, member in ipairs(redis.call('ZRANGE', retention, '-inf', below, 'BYSCORE', 'LIMIT', 0, surplus + count)) do
    local name = split(member)[2]
    if not is_put[name] and surplus > 0 then
      forget(name)
      surplus = surplus - 1
    end
  end
end

if session and session.ttl ~= '' then prolong(session.updated, session.ttl, now, ARGV[5]) end
return reply

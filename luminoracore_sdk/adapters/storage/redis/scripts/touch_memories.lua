-- needs: session index common memory
-- ARGV: kind, owner, now, now as a stamp, expires or '', and keys. Returns how many of them existed and had not expired.
if of_session and not live(ARGV[3]) then return 0 end
check_sorted(index)
local expires, count = ARGV[5], 0
for number = 6, #ARGV do
  local key = ARGV[number]
  local found = read_memory(key)
  if found and not is_expired(found.expires, ARGV[4]) then
    local rest = string.sub(found.record, behind(found.record, 3))
    redis.call('HSET', memories, key, table.concat({found.created, found.updated, expires, rest}, NUL))
    if found.expires ~= '' then redis.call('ZREM', index, expiring .. found.expires .. NUL .. key) end
    if expires ~= '' then redis.call('ZADD', index, 0, expiring .. expires .. NUL .. key) end
    count = count + 1
  end
end
return count

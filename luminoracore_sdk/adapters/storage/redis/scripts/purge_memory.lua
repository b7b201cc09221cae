-- needs: session index common memory
-- ARGV: kind, owner, expires, key: of an index member that has expired. Returns 1 if a memory was removed.
local expires, key = ARGV[3], ARGV[4]
local found = read_memory(key)
check_sorted(retention)
redis.call('ZREM', index, expiring .. expires .. NUL .. key)
if found and found.expires == expires then
  forget(key)
  return 1
end
if not found then redis.call('ZREM', index, naming .. key) end
unlist_owner()
return 0

-- ARGV: kind, owner, expires, key: an index member that is over. Returns 1 if a memory was removed.
local kind, owner, expires, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = read_memory(key)
redis.call('ZREM', index, expiring(kind, owner) .. expires .. NUL .. key)
if not found or found.expires ~= expires then return 0 end
forget(kind, owner, key, found)
return 1

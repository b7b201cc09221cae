-- ARGV: kind, owner, now, now as a stamp. Returns how many were there and not over.
local kind, owner = ARGV[1], ARGV[2]
if of_session and state(header(KEYS[1]), ARGV[3]) ~= 'live' then return 0 end
local count = redis.call('HLEN', memories) - #over(kind, owner, ARGV[4])
redis.call('UNLINK', memories, retention)
in_parts('ZREM', index, beginning_with(index, expiring(kind, owner)))
return count

-- needs: session index common memory
-- ARGV: kind, owner, now, now as a stamp. Returns how many memories the scope held that had not expired.
if of_session and not live(ARGV[3]) then return 0 end
check_sorted(retention)
local count = redis.call('HLEN', memories) - #expired_members(ARGV[4])
redis.call('UNLINK', memories, retention)
in_parts('ZREM', index, beginning_with(index, expiring))
in_parts('ZREM', index, beginning_with(index, naming))
if not of_session then redis.call('ZREM', index, owner_member) end
return count

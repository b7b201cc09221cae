-- needs: session memory
-- ARGV: kind, owner, now as a stamp. Returns how many memories a user has that have not expired.
return redis.call('HLEN', memories) - #expired_members(ARGV[3])

-- needs: session index common memory
-- ARGV: kind, owner, key, now, now as a stamp. Returns 1 if the memory existed and had not expired.
if of_session and not live(ARGV[4]) then return 0 end
local found = read_memory(ARGV[3])
if not found then return 0 end
check_sorted(retention)
check_sorted(index)
forget(ARGV[3])
return is_expired(found.expires, ARGV[5]) and 0 or 1

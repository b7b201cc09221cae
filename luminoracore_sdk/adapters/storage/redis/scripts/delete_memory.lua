-- ARGV: kind, owner, key, now, now as a stamp. Returns 1 if it was there and not over.
if of_session and state(header(KEYS[1]), ARGV[4]) ~= 'live' then return 0 end
local found = read_memory(ARGV[3])
if not found then return 0 end
check_sorted(retention)
check_sorted(index)
forget(ARGV[1], ARGV[2], ARGV[3], found)
return is_over(found.expires, ARGV[5]) and 0 or 1

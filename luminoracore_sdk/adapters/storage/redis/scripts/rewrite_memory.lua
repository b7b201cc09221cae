-- ARGV: key, now, now as a stamp, old tag and payload, new tag and payload.
-- Returns ok, 1 if the memory is there and had the old ones, else 0; or absent; or damaged.
local standing = of_session and state(header(KEYS[1]), ARGV[2]) or 'live'
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
local found = read_memory(ARGV[1])
if not found or is_over(found.expires, ARGV[3]) then return {'ok', 0} end
local from = behind(found.record, 4)  -- times and retention stay
if not from or string.sub(found.record, from) ~= ARGV[4] then return {'ok', 0} end
redis.call('HSET', memories, ARGV[1], string.sub(found.record, 1, from - 1) .. ARGV[5])
return {'ok', 1}

-- KEYS: session, messages. ARGV: now; then of each message position, id, old tag and payload, new tag
-- and payload. Returns ok, how many were replaced; or absent; or damaged.
local found = header(KEYS[1])
local standing = state(found, ARGV[1])
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
local last = tonumber(found.last)
if redis.call('LLEN', KEYS[2]) ~= last then return {'damaged'} end

local replaced = 0
for number = 2, #ARGV, 4 do
  local at, id, old, new = tonumber(ARGV[number]), ARGV[number + 1], ARGV[number + 2], ARGV[number + 3]
  local element = at <= last and redis.call('LRANGE', KEYS[2], at - 1, at - 1)[1]
  local from = element and behind(element, 3)  -- id, role and time stay
  if from and string.sub(element, 1, #id + 1) == id .. NUL and string.sub(element, from) == old then
    redis.call('LSET', KEYS[2], at - 1, string.sub(element, 1, from - 1) .. new)
    replaced = replaced + 1
  end
end
return {'ok', replaced}

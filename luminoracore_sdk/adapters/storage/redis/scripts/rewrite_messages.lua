-- needs: session index common
-- KEYS: session, messages. ARGV: now; then for each message position, id, old encoding and payload, new
-- encoding and payload. Returns ok, how many were replaced; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local replaced = 0
for number = 2, #ARGV, 4 do
  local at, id, old, new = tonumber(ARGV[number]), ARGV[number + 1], ARGV[number + 2], ARGV[number + 3]
  local element = at <= found.last and redis.call('LRANGE', KEYS[2], at - 1, at - 1)[1]
  local from = element and behind(element, 3)  -- id, role and time stay
  if from and string.sub(element, 1, #id + 1) == id .. NUL and string.sub(element, from) == old then
    redis.call('LSET', KEYS[2], at - 1, string.sub(element, 1, from - 1) .. new)
    replaced = replaced + 1
  end
end
return {'ok', replaced}

-- needs: session
-- KEYS: session, messages, ids. ARGV: now; then for each message position, id, old index or '', new index or ''.
-- Returns ok, how many were replaced; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local replaced = 0
for number = 2, #ARGV, 4 do
  local at, id, old, new = tonumber(ARGV[number]), ARGV[number + 1], ARGV[number + 2], ARGV[number + 3]
  local position, index = place_of(redis.call('HGET', KEYS[3], id))
  if position == at and index == old then
    redis.call('HSET', KEYS[3], id, place(position, new))
    replaced = replaced + 1
  end
end
return {'ok', replaced}

-- needs: session message_index
-- ARGV: now; then for each message position, id, old index or '', new index or ''.
-- Returns ok, how many were replaced; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local replaced = 0
for number = 2, #ARGV, 4 do
  local at, id, old, new = tonumber(ARGV[number]), ARGV[number + 1], ARGV[number + 2], ARGV[number + 3]
  local element = at <= found.last and redis.call('LRANGE', KEYS[2], at - 1, at - 1)[1]
  if element and string.sub(element, 1, #id + 1) == id .. NUL
    and (redis.call('LRANGE', KEYS[7], at - 1, at - 1)[1] or '') == old then
    put_index(at, new)
    replaced = replaced + 1
  end
end
return {'ok', replaced}

-- needs: session history
-- ARGV: now, position, old element, new element, brief without position or '', index or ''.
-- Returns ok, 1 if the message had the old element, else 0; or absent; or damaged.
local found, refusal = live_history(ARGV[1], 'first_brief', 'last_brief', 'changes')
if not found then return refusal end
local at = tonumber(ARGV[2])
if at > found.last or redis.call('LRANGE', KEYS[2], at - 1, at - 1)[1] ~= ARGV[3] then return {'ok', 0} end
redis.call('HSET', KEYS[3], string.match(ARGV[4], '^%Z*'), place(at, ARGV[6]))
redis.call('LSET', KEYS[2], at - 1, ARGV[4])
redis.call('HINCRBY', KEYS[1], 'history', 1)
redis.call('HSET', KEYS[1], 'changes', noted(found.changes, 'u', at))
for _, field in ipairs({'first_brief', 'last_brief'}) do
  if position_of(found[field]) == at then
    redis.call('HSET', KEYS[1], field, ARGV[5] == '' and '' or at .. NUL .. ARGV[5])
  end
end
tell()
return {'ok', 1}

-- needs: session
-- KEYS: session, messages, ids. ARGV: now, id.
-- Returns ok, position and element of the message; ok alone: no such message; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local position = place_of(redis.call('HGET', KEYS[3], ARGV[2]))
if position == 0 then return {'ok'} end
return {'ok', position, redis.call('LRANGE', KEYS[2], position - 1, position - 1)[1] or ''}

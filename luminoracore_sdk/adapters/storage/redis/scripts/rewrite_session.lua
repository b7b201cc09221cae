-- needs: session
-- KEYS: session. ARGV: now, old encoding, old payload, new encoding, new payload.
-- Returns ok, 1 if the payload was the old one, else 0; or absent; or damaged.
local found, refusal = live(ARGV[1])
if not found then return refusal end
local stored = redis.call('HMGET', KEYS[1], 'encoding', 'payload')
if stored[1] ~= ARGV[2] or stored[2] ~= ARGV[3] then return {'ok', 0} end
redis.call('HSET', KEYS[1], 'encoding', ARGV[4], 'payload', ARGV[5])
return {'ok', 1}

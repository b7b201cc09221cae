-- KEYS: session. ARGV: now, old tag, old payload, new tag, new payload.
-- Returns ok, 1 if the payload was the old one, else 0; or absent; or damaged.
local standing = state(header(KEYS[1]), ARGV[1])
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
local stored = redis.call('HMGET', KEYS[1], 'tag', 'payload')
if stored[1] ~= ARGV[2] or stored[2] ~= ARGV[3] then return {'ok', 0} end
redis.call('HSET', KEYS[1], 'tag', ARGV[4], 'payload', ARGV[5])
return {'ok', 1}

-- needs: session index summary history
-- ARGV: as for changing_history; after. Returns ok, how many messages were removed; or absent; or damaged.
local found, refusal = changing_history()
if not found then return refusal end
local after = tonumber(ARGV[4])
local left = math.min(found.last, after)
redis.call('HLEN', KEYS[3])
cut(found, after, false)
touch(found, left)
tell()
return {'ok', found.last - left}

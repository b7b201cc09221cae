-- needs:
-- KEYS: meta. ARGV: schema version, buckets.
-- Returns the version and the buckets of the store, which are written if it is new.
local found = redis.call('HMGET', KEYS[1], 'schema_version', 'buckets')
if found[1] or found[2] then return {found[1] or '', found[2] or ''} end
redis.call('HSET', KEYS[1], 'schema_version', ARGV[1], 'buckets', ARGV[2])
return {ARGV[1], ARGV[2]}

-- needs: session
-- KEYS: session. ARGV: now; old card, first and last brief, each or ''; new ones.
-- Returns ok, 1 if all were the old ones, else 0; or absent; or damaged.
local found, refusal = live(ARGV[1], 'card', 'first_brief', 'last_brief')
if not found then return refusal end
if found.card ~= ARGV[2] or found.first_brief ~= ARGV[3] or found.last_brief ~= ARGV[4] then return {'ok', 0} end
redis.call('HSET', KEYS[1], 'card', ARGV[5], 'first_brief', ARGV[6], 'last_brief', ARGV[7])
return {'ok', 1}

-- needs: session
-- KEYS: session. ARGV: now, holder, when the lease is to end.
-- Returns ok, the fence; or held, when the lease of another holder ends; or absent; or damaged.
local now, holder = ARGV[1], ARGV[2]
local found, refusal = live(now, 'lease')
if not found then return refusal end
local fence = tonumber(now)
if found.lease ~= '' then
  local latest, ends, held_by = string.match(found.lease, '^(%d+)%z(%-?%d+)%z(%Z+)$')
  if not latest then return {'damaged'} end
  fence = tonumber(latest)
  if sum(ends, '0', now) <= 0 then
    fence = fence + 1
  elseif held_by ~= holder then
    return {'held', ends}
  end
end
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', fence) .. NUL .. ARGV[3] .. NUL .. holder)
return {'ok', fence}

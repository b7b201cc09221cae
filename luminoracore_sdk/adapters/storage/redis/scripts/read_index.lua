-- needs: session range
-- KEYS: session, messages, message index. ARGV: as for range_of.
-- Returns ok, a number that changes when the history is cut off or begins anew, the first position, the position at
-- which to stop, and from the first on, until they have so many bytes, id, role, time and index of each message, joined
-- by NUL; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local first, stop = range_of(found)

local elements, size, at = {}, 0, first
while at <= stop and size < tonumber(ARGV[6]) do
  local final = math.min(at + 127, stop)
  local indexes = redis.call('LRANGE', KEYS[3], at - 1, final - 1)
  for number, element in ipairs(redis.call('LRANGE', KEYS[2], at - 1, final - 1)) do
    local head = string.match(element, '^%Z*%z%Z*%z%Z*%z') or (element .. NUL)
    elements[#elements + 1] = head .. (indexes[number] or '')
    size = size + #elements[#elements]
  end
  at = final + 1
end
return {'ok', redis.call('HGET', KEYS[1], 'history') or '', first, stop, elements}

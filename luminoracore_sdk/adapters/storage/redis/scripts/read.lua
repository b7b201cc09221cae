-- needs: session range
-- KEYS: session, messages; for a turn, memories. ARGV: as for range_of; for a turn, the fields of the header
-- that are wanted.
-- Returns ok, a number that changes when the history is cut off or begins anew, the first position, the
-- position at which to stop, the elements from the first on until they have so many bytes, and for a turn the
-- header's values and the memories; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local first, stop = range_of(found)

local elements, size, at, step = {}, 0, first, 16
while at <= stop and size < tonumber(ARGV[6]) do
  for _, element in ipairs(redis.call('LRANGE', KEYS[2], at - 1, math.min(at + step - 1, stop) - 1)) do
    elements[#elements + 1] = element
    size = size + #element
  end
  at, step = at + step, math.min(2 * step, 128)
end
local reply = {'ok', redis.call('HGET', KEYS[1], 'history') or '', first, stop, elements}
if KEYS[3] then
  reply[6] = redis.call('HMGET', KEYS[1], unpack(ARGV, 7))
  reply[7] = redis.call('HGETALL', KEYS[3])
end
return reply

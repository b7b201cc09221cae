-- needs: session range
-- KEYS: session, messages, ids. ARGV: as for range_of; 1: the elements are wanted too.
-- Returns ok, a number that changes when the history is cut off or begins anew, the first position, the position at
-- which to stop, and from the first on, until they have so many bytes, id, role, time and index or '' of each message,
-- joined by NUL, and the elements; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local first, stop = range_of(found)

local indexes, elements, size, at, step = {}, {}, 0, first, 16
while at <= stop and size < tonumber(ARGV[6]) do
  local heads, ids = {}, {}
  for number, element in ipairs(redis.call('LRANGE', KEYS[2], at - 1, math.min(at + step - 1, stop) - 1)) do
    heads[number], ids[number] = string.match(element, '^((%Z*)%z%Z*%z%Z*%z)')
    if not heads[number] then return {'damaged'} end
    if ARGV[7] == '1' then
      elements[#elements + 1] = element
      size = size + #element
    end
  end
  for number, value in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    local position, index = place_of(value)
    if position ~= at + number - 1 then return {'damaged'} end
    indexes[#indexes + 1] = heads[number] .. index
    size = size + #indexes[#indexes]
  end
  at, step = at + #ids, math.min(2 * step, 128)
end
return {'ok', redis.call('HGET', KEYS[1], 'history') or '', first, stop, indexes, elements}

-- KEYS: session, messages. ARGV: now, after, before or '', limit or '', 1: the newest, bytes.
-- Returns ok, which history this is of, first position, position at which to stop, the elements from
-- the first on until so many bytes are reached; or absent; or damaged.
local found = header(KEYS[1])
local standing = state(found, ARGV[1])
if standing ~= 'live' then return {standing == 'damaged' and standing or 'absent'} end
local last = tonumber(found.last)
if redis.call('LLEN', KEYS[2]) ~= last then return {'damaged'} end

local first, stop = math.max(1, tonumber(ARGV[2]) + 1), last
if ARGV[3] ~= '' then stop = math.min(stop, tonumber(ARGV[3]) - 1) end
if ARGV[4] ~= '' then
  if ARGV[5] == '1' then
    first = math.max(first, stop - tonumber(ARGV[4]) + 1)
  else
    stop = math.min(stop, first + tonumber(ARGV[4]) - 1)
  end
end

-- Each LRANGE seeks from an end of the list, 0.2 ms in the middle of 1,000,000 messages: so it asks for more
-- each time, but for no more than fit if they are as large as those before.
local elements, size, bytes, at, step = {}, 0, tonumber(ARGV[6]), first, 16
while at <= stop and size < bytes do
  local upto = math.min(at + step - 1, stop)
  for _, element in ipairs(redis.call('LRANGE', KEYS[2], at - 1, upto - 1)) do
    elements[#elements + 1] = element
    size = size + #element
  end
  at = upto + 1
  step = math.max(16, math.min(2 * step, 128, math.ceil((bytes - size) * #elements / size)))
end
return {'ok', redis.call('HGET', KEYS[1], 'history') or '', first, stop, elements}

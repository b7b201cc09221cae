-- The index of messages: a list whose element n is the index of the message n, '' if it has none. It may end before the
-- messages do: the rest of them have none.

-- Write elements at the position behind another one, where the list ends at the latest; '' fills up a shorter list.
local function push_index(key, behind, elements)
  local missing = behind - redis.call('LLEN', key)
  while missing > 0 do
    local filling = {}
    for number = 1, math.min(missing, 500) do filling[number] = '' end
    redis.call('RPUSH', key, unpack(filling))
    missing = missing - #filling
  end
  redis.call('RPUSH', key, unpack(elements))
end

-- Replace the index of a message. A new list ends when the messages do.
local function put_index(at, element)
  if at <= redis.call('LLEN', KEYS[7]) then
    redis.call('LSET', KEYS[7], at - 1, element)
  elseif element ~= '' then
    push_index(KEYS[7], at - 1, {element})
    local left_ms = redis.call('PTTL', KEYS[2])
    if left_ms >= 0 then redis.call('PEXPIRE', KEYS[7], left_ms) end
  end
end

-- needs: session index common message_index
-- KEYS: messages, ids and message index of a copy. ARGV: how long it lasts, first position; then each message's id,
-- element and index.
local elements, places = {}, {}
for at = 3, #ARGV, 3 do
  elements[#elements + 1] = ARGV[at + 1]
  if ARGV[at + 2] ~= '' then push_index(KEYS[3], ARGV[2] + #elements - 2, {ARGV[at + 2]}) end
  places[#places + 1], places[#places + 2] = ARGV[at], ARGV[2] + #elements - 1
end
in_parts('RPUSH', KEYS[1], elements)
in_parts('HSET', KEYS[2], places)
for number = 1, 3 do redis.call('PEXPIRE', KEYS[number], ARGV[1]) end

-- needs: session index common
-- KEYS: messages and ids of a copy. ARGV: how long it lasts, first position; then each message's id, element and index
-- or ''.
local elements, places = {}, {}
for at = 3, #ARGV, 3 do
  elements[#elements + 1] = ARGV[at + 1]
  places[#places + 1], places[#places + 2] = ARGV[at], place(ARGV[2] + #elements - 1, ARGV[at + 2])
end
in_parts('RPUSH', KEYS[1], elements)
in_parts('HSET', KEYS[2], places)
for number = 1, 2 do redis.call('PEXPIRE', KEYS[number], ARGV[1]) end

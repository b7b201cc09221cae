-- needs: session index common
-- KEYS: messages and ids of a copy. ARGV: how long it lasts, first position; then the ids of messages, their elements,
-- and the index of each or ''.
local count, elements, places = (#ARGV - 2) / 3, {}, {}
for number = 1, count do
  elements[number] = ARGV[2 + count + number]
  places[2 * number - 1] = ARGV[2 + number]
  places[2 * number] = place(ARGV[2] + number - 1, ARGV[2 + 2 * count + number])
end
in_parts('RPUSH', KEYS[1], elements)
in_parts('HSET', KEYS[2], places)
for number = 1, 2 do redis.call('PEXPIRE', KEYS[number], ARGV[1]) end

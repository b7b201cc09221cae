-- needs: session index common
-- KEYS: session, messages and ids of the source, messages and ids of the copy. ARGV: now, how long the copy lasts, first
-- position, last position of the fork, bytes, the number of the history of which the copy begins, or ''.
-- Copies messages until they have so many bytes. Returns ok, the number of the history, the last position of the
-- source, the last position copied, and the roles copied with their numbers in turn; or changed: the history has
-- another number; or absent; or damaged.
local found, refusal = live_history(ARGV[1])
if not found then return refusal end
local history = redis.call('HGET', KEYS[1], 'history') or ''
if ARGV[6] ~= '' and ARGV[6] ~= history then return {'changed'} end
local at, final, size, step, roles = tonumber(ARGV[3]), tonumber(ARGV[4]), 0, 16, {}
while at <= final and final <= found.last and size < tonumber(ARGV[5]) do
  local elements, ids, places = redis.call('LRANGE', KEYS[2], at - 1, math.min(at + step - 1, final) - 1), {}, {}
  for number, element in ipairs(elements) do
    local id, role = string.match(element, '^(%Z*)%z(%Z*)%z')
    if not id then return {'damaged'} end
    ids[number] = id
    roles[role] = (roles[role] or 0) + 1
    size = size + #element
  end
  for number, value in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    if place_of(value) ~= at + number - 1 then return {'damaged'} end
    places[2 * number - 1], places[2 * number] = ids[number], value
  end
  redis.call('RPUSH', KEYS[4], unpack(elements))
  redis.call('HSET', KEYS[5], unpack(places))
  at, step = at + #elements, math.min(2 * step, 128)
end
for number = 4, 5 do redis.call('PEXPIRE', KEYS[number], ARGV[2]) end
local counted = {}
for role, count in pairs(roles) do
  counted[#counted + 1], counted[#counted + 2] = role, count
end
return {'ok', history, found.last, at - 1, counted}

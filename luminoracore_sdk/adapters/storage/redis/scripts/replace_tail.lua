-- needs: session index summary history
-- ARGV: as for changing_history; after, expected last position, expected change and fence, each or ''; what the messages
-- add as for fold; then their ids, their elements, and the index of each or ''.
-- Returns ok, the elements that were removed; or refused, the last position, the position of each message or 0, the
-- latest change and the latest fence; or absent; or damaged.
local after, count = tonumber(ARGV[4]), (#ARGV - 10) / 3
local found, refusal = changing_history()
if not found then return refusal end
local last, fence, change = found.last, fence_of(), latest_change()
local refused = last < after or (ARGV[5] ~= '' and tonumber(ARGV[5]) ~= last)
  or (ARGV[6] ~= '' and ARGV[6] ~= change) or (ARGV[7] ~= '' and ARGV[7] ~= fence)
redis.call('HLEN', KEYS[3])
local positions, any = {}, false
if count > 0 then positions, any = positions_of(11, count) end
if refused or any then return {'refused', last, positions, tonumber(change), tonumber(fence)} end

-- This write comes first: a server without memory refuses a script at its first write that needs some.
redis.call('HSET', KEYS[1], 'last_position', after + count)
local removed = cut(found, after, true)
if count > 0 then
  store(11, count, after)
  fold(found, after, ARGV[8], ARGV[9], ARGV[10])
end
touch(found, after + count)
tell()
return {'ok', removed}

-- needs: session index summary history
-- ARGV: as for changing_history; after, expected last position or '', fence or ''; what the messages add as for fold;
-- then their ids, their elements, and the index of each or ''.
-- Returns ok, the elements that were removed; or refused, the last position, the position of each message or 0, and
-- the latest fence; or absent; or damaged.
local after, fence, count = tonumber(ARGV[4]), ARGV[6], (#ARGV - 9) / 3
local found, refusal = changing_history()
if not found then return refusal end
local last = found.last
local refused = last < after or (ARGV[5] ~= '' and tonumber(ARGV[5]) ~= last) or (fence ~= '' and fence ~= fence_of())
redis.call('HLEN', KEYS[3])
local positions, any = {}, false
if count > 0 then positions, any = positions_of(10, count) end
if refused or any then return {'refused', last, positions, tonumber(fence_of())} end

-- This write comes first: a server without memory refuses a script at its first write that needs some.
redis.call('HSET', KEYS[1], 'last_position', after + count)
local removed = cut(found, after, true)
if count > 0 then
  store(10, count, after)
  fold(found, after, ARGV[7], ARGV[8], ARGV[9])
end
touch(found, after + count)
tell()
return {'ok', removed}

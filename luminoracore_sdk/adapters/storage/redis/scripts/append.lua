-- needs: session index summary
-- ARGV: as for changing_history; then for each append the last position that it expects or '', the fence or '',
-- what its messages add as for fold, their number, their ids, their elements, and the index of each or ''. An append
-- that is refused leaves the others to be written.
-- Returns the last position if there is one append and it is written; else ok and for each append its last position, or
-- {'known', the position of each message or 0}, or {'fenced', the latest fence}, or {'moved', last position}; or absent;
-- or damaged.
local found, refusal = changing_history()
if not found then return refusal end
local last, at, reply = found.last, 4, {'ok'}

local function append(expected, fence, count, ids)
  local positions, any = positions_of(ids, count)
  if any then return {'known', unpack(positions)} end
  if fence ~= '' and fence ~= fence_of() then return {'fenced', tonumber(fence_of())} end
  if expected ~= '' and tonumber(expected) ~= last then return {'moved', last} end
  store(ids, count, last)
  fold(found, last, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  last = last + count
  return last
end

repeat
  local count = tonumber(ARGV[at + 5])
  reply[#reply + 1] = append(ARGV[at], ARGV[at + 1], count, at + 6)
  at = at + 6 + 3 * count
until not ARGV[at]

if last > found.last then
  touch(found, last)
  tell()
end
return #reply == 2 and type(reply[2]) == 'number' and last or reply

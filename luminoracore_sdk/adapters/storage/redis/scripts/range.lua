-- What the scripts that read messages share. ARGV begin with now, after, before or '', limit or '', 1: the newest, bytes.

-- Return the first position of the range, and the position at which to stop.
local function range_of(found)
  local first, stop = math.max(1, tonumber(ARGV[2]) + 1), found.last
  if ARGV[3] ~= '' then stop = math.min(stop, tonumber(ARGV[3]) - 1) end
  if ARGV[4] ~= '' and ARGV[5] == '1' then
    first = math.max(first, stop - tonumber(ARGV[4]) + 1)
  elseif ARGV[4] ~= '' then
    stop = math.min(stop, first + tonumber(ARGV[4]) - 1)
  end
  return first, stop
end

-- needs: session index common memory
-- ARGV: kind, owner, now, now as a stamp, bounds of the index members, 1: backwards, most memories or '', 1: with payload.
-- Returns ok, the memories of a page, each as its key and its record; or absent; or damaged.
if of_session then
  local session, refusal = live(ARGV[3])
  if not session then return refusal end
end
local from, to, backwards, most = ARGV[5], ARGV[6], ARGV[7] == '1', tonumber(ARGV[8]) or math.huge
local reply, count = {'ok'}, 0
repeat
  local portion = math.min(most - count, 500)
  local members
  if backwards then
    members = redis.call('ZRANGE', index, to, from, 'BYLEX', 'REV', 'LIMIT', 0, portion)
  else
    members = redis.call('ZRANGE', index, from, to, 'BYLEX', 'LIMIT', 0, portion)
  end
  for _, member in ipairs(members) do
    local key = string.sub(member, #naming + 1)
    local found = read_memory(key)
    if found and not is_expired(found.expires, ARGV[4]) then
      local last = ARGV[9] == '1' and -1 or behind(found.record, 6) - 1
      reply[2 + 2 * count], reply[3 + 2 * count] = key, string.sub(found.record, 1, last)
      count = count + 1
    end
  end
  local bound = '(' .. (members[#members] or '')
  if backwards then to = bound else from = bound end
until #members < portion or count >= most
return reply

-- needs: session
-- KEYS: sessions. Returns for each one created, updated_at_us, ttl_us, version, last_position, user, the number of the
-- latest change or 0, and tags, joined by NUL; nil: there is none; '': a field is missing.
local headers = {}
for number, key in ipairs(KEYS) do
  local values = redis.call(
    'HMGET', key, 'created', 'updated_at_us', 'ttl_us', 'version', 'last_position', 'user', 'changes', 'tags')
  values[7] = string.match(values[7] or '0', '^%d*')
  local is_whole, is_absent = true, not values[1]
  for at = 1, 8 do is_whole = is_whole and values[at] end
  is_absent = is_absent and redis.call('EXISTS', key) == 0
  headers[number] = not is_absent and (is_whole and table.concat(values, NUL) or '')
end
return headers

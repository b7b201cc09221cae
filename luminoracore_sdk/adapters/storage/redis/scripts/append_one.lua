-- append_one
-- Stands before all else in the script that appends, whose KEYS and ARGV it has. It does what is asked for
-- nearly always: one new message to a live session without a ttl. Whatever is not like that it leaves, before
-- anything is written, to what follows. Without the functions and lists of that, an append takes a quarter
-- less of the server's time (20 µs to 15, Valkey 8).
local values = redis.call('HMGET', KEYS[1], 'version', 'updated_at_us', 'ttl_us', 'last_position')
if #ARGV == 6 and values[1] and values[3] == '' then
  local now, expected, id = ARGV[1], ARGV[3], ARGV[5]
  local updated, last = values[2] or '', tonumber(values[4] or '')
  -- of as many digits, and with no sign before them, text sorts as the numbers do
  if last and tonumber(updated) and #updated == #now and updated > '0' and now > '0'
    and (expected == '' or tonumber(expected) == last)
    and redis.call('LLEN', KEYS[2]) == last and not redis.call('HGET', KEYS[3], id) then
    last = last + 1
    redis.call('RPUSH', KEYS[2], ARGV[6])
    redis.call('HSET', KEYS[3], id, last)
    redis.call('HSET', KEYS[1], 'updated_at_us', updated > now and updated or now, 'last_position', last)
    return last
  end
end

-- needs: session index common memory
-- ARGV: kind, owner, key, now, now as a stamp, old encoding and payload, new encoding and payload.
-- Returns ok, 1 if the memory exists and had the old payload, else 0; or absent; or damaged.
if of_session then
  local session, refusal = live(ARGV[4])
  if not session then return refusal end
end
local found = read_memory(ARGV[3])
if not found or is_expired(found.expires, ARGV[5]) then return {'ok', 0} end
local from = behind(found.record, 5)  -- times, retention and version stay
if not from or string.sub(found.record, from) ~= ARGV[6] then return {'ok', 0} end
redis.call('HSET', memories, ARGV[3], string.sub(found.record, 1, from - 1) .. ARGV[7])
return {'ok', 1}

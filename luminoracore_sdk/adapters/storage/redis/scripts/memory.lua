-- Stands before the scripts on memories. KEYS end with memories, retention, index, also for a user.
-- A record is created, updated, expires or '' (stamps), retention, tag, payload, joined by NUL.
local memories, retention, index = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]
local of_session = #KEYS == 6

local function read_memory(key)
  local record = redis.call('HGET', memories, key)
  if not record then return nil end
  local expires = string.sub(record, 35, 35) == NUL and '' or string.sub(record, 35, 50)
  return {
    record = record, created = string.sub(record, 1, 16), updated = string.sub(record, 18, 33),
    expires = expires,
  }
end

local function is_over(expires, now)
  return expires ~= '' and expires <= now
end

-- The index holds what expires under kind, owner, stamp and key.
local function expiring(kind, owner)
  return 'm' .. NUL .. kind .. NUL .. owner .. NUL
end

local function forget(kind, owner, key, found)
  redis.call('HDEL', memories, key)
  redis.call('ZREM', retention, found.updated .. NUL .. key)
  if found.expires ~= '' then redis.call('ZREM', index, expiring(kind, owner) .. found.expires .. NUL .. key) end
end

-- The members of a scope that are over by now.
local function over(kind, owner, now)
  local all = expiring(kind, owner)
  return redis.call('ZRANGE', index, '[' .. all, '(' .. all .. now .. '\1', 'BYLEX')
end

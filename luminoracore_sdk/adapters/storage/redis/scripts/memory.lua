-- What the scripts on memories share. KEYS end with memories, retention, index, for a user's memories too.
-- ARGV begin with kind (s or u) and owner. A record is created, updated, expires or '' (stamps), retention, version,
-- encoding, payload, joined by NUL.
local memories, retention, index = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]
local of_session, owner = ARGV[1] == 's', ARGV[2]
local expiring = 'm' .. NUL .. ARGV[1] .. NUL .. owner .. NUL  -- begins the index members of what expires
local naming = 'n' .. NUL .. ARGV[1] .. NUL .. owner .. NUL  -- begins the index members of all keys
local owner_member = 'o' .. NUL .. NUL .. owner  -- the index member of a user that has memories

local function read_memory(key)
  local record = redis.call('HGET', memories, key)
  if not record then return nil end
  local expires = string.sub(record, 35, 35) == NUL and '' or string.sub(record, 35, 50)
  return {
    record = record, created = string.sub(record, 1, 16), updated = string.sub(record, 18, 33),
    expires = expires, version = string.match(record, '^%Z*%z%Z*%z%Z*%z%Z*%z(%d+)%z'),
  }
end

local function is_expired(expires, stamp)
  return expires ~= '' and expires <= stamp
end

-- Remove what the retention order and the index hold of a memory.
local function unlist(key, found)
  redis.call('ZREM', retention, found.updated .. NUL .. key)
  if found.expires ~= '' then redis.call('ZREM', index, expiring .. found.expires .. NUL .. key) end
end

local function unlist_owner()
  if not of_session and redis.call('HLEN', memories) == 0 then redis.call('ZREM', index, owner_member) end
end

local function forget(key)
  unlist(key, read_memory(key) or {updated = '', expires = ''})
  redis.call('HDEL', memories, key)
  redis.call('ZREM', index, naming .. key)
  unlist_owner()
end

-- Return the index members of the scope's memories that have expired.
local function expired_members(stamp)
  return redis.call('ZRANGE', index, '[' .. expiring, '(' .. expiring .. stamp .. '\1', 'BYLEX')
end

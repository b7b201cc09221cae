-- Statements of the SQLite backend, on the tables that ../tables.py defines; see ../sql.py for the form of this file.
-- A session is live while it has no ttl or "updated_at_us + ttl_us" is above :now. A memory is live while it has no
-- expires_at_us or one above :now. What is not live counts as absent.
-- Statements that follow one another in a transaction take the key of the session (:sid) that an earlier one returned.

-- name: find_version
SELECT version_num FROM luminora_version;

-- name: insert_version
INSERT INTO luminora_version (version_num) VALUES (:version);


-- ---- sessions -------------------------------------------------------------------------------

-- name: find_session
SELECT s.session_id, s.user_id, s.tags, s.ttl_us, s.created_at_us, s.updated_at_us, s.version, s.last_position, s.last_change,
       s.summary, s.history, d.checksum, d.encoding, coalesce(d.payload, d.blob) AS data
  FROM luminora_sessions AS s
  LEFT JOIN luminora_documents AS d ON d.sid = s.sid
 WHERE s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now);

-- name: find_session_of_turn
-- Without card, summary and history.
SELECT s.session_id, s.user_id, s.tags, s.ttl_us, s.created_at_us, s.updated_at_us, s.version, s.last_position,
       d.checksum, d.encoding, coalesce(d.payload, d.blob) AS data, s.sid
  FROM luminora_sessions AS s
  LEFT JOIN luminora_documents AS d ON d.sid = s.sid
 WHERE s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now);

-- name: find_live_session
-- What a write has to know.
SELECT sid, created_at_us, updated_at_us, version, last_position, last_change, summary
  FROM luminora_sessions
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now);

-- name: find_history
SELECT history FROM luminora_sessions WHERE sid = :sid;

-- name: insert_session
INSERT INTO luminora_sessions
       (session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change, summary)
VALUES (:session, :user, :tags, :ttl, :created, :now, 1, :last, 0, :summary)
RETURNING sid;

-- name: update_session
UPDATE luminora_sessions
   SET user_id = :user, tags = :tags, ttl_us = :ttl, updated_at_us = :updated, version = version + 1, summary = :summary
 WHERE sid = :sid;

-- name: put_summary
UPDATE luminora_sessions SET summary = :summary WHERE sid = :sid;

-- name: put_history
UPDATE luminora_sessions SET history = :history, last_change = :last_change WHERE sid = :sid;

-- name: put_document
INSERT INTO luminora_documents (sid, checksum, encoding, payload, blob)
VALUES (:sid, :checksum, :encoding, :payload, :blob)
ON CONFLICT (sid) DO UPDATE
   SET checksum = excluded.checksum, encoding = excluded.encoding, payload = excluded.payload, blob = excluded.blob;

-- name: delete_messages
-- Before delete_session, which deletes the document and the memories by their foreign keys.
DELETE FROM luminora_messages WHERE sid IN (SELECT sid FROM luminora_sessions WHERE session_id = :session);

-- name: delete_session
DELETE FROM luminora_sessions WHERE session_id = :session;

-- name: delete_messages_of_expired
DELETE FROM luminora_messages
 WHERE sid IN (SELECT sid FROM luminora_sessions WHERE ttl_us IS NOT NULL AND updated_at_us + ttl_us <= :now);

-- name: delete_expired_sessions
DELETE FROM luminora_sessions WHERE ttl_us IS NOT NULL AND updated_at_us + ttl_us <= :now;

-- Listings are run without the lines of which a parameter is not given, and without the summary if texts are not wanted.

-- name: list_oldest
-- Between two bounds, both exclusive.
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change, summary
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND (created_at_us, session_id) > (:low_time, :low_id) AND (created_at_us, session_id) < (:high_time, :high_id)
   AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)
   AND NOT EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :without_tag)
 ORDER BY created_at_us, session_id LIMIT :count;

-- name: list_newest
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change, summary
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND (created_at_us, session_id) > (:low_time, :low_id) AND (created_at_us, session_id) < (:high_time, :high_id)
   AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)
   AND NOT EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :without_tag)
 ORDER BY created_at_us DESC, session_id DESC LIMIT :count;

-- name: list_active_oldest
-- By activity, behind a cursor. The + keeps SQLite from the index of created_at_us.
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change, summary
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND (updated_at_us, session_id) > (:time, :id)
   AND +created_at_us >= :since AND +created_at_us < :before
   AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)
   AND NOT EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :without_tag)
 ORDER BY updated_at_us, session_id LIMIT :count;

-- name: list_active_newest
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change, summary
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND (updated_at_us, session_id) < (:time, :id)
   AND +created_at_us >= :since AND +created_at_us < :before
   AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)
   AND NOT EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :without_tag)
 ORDER BY updated_at_us DESC, session_id DESC LIMIT :count;


-- ---- messages -------------------------------------------------------------------------------

-- name: find_positions
-- Positions of those ids of a batch that are stored already.
SELECT message_id, place & 4294967295 FROM luminora_messages
 WHERE sid = :sid AND message_id IN (SELECT value FROM json_each(:ids));

-- name: insert_message
-- Run once for each message of a batch. json_each(:messages) is 10 % slower at every size, and cannot carry bytes.
INSERT INTO luminora_messages
       (place, sid, position, message_id, role, created_at_us, index_data, checksum, encoding, payload, blob)
VALUES ((:sid << 32) + :position, :sid, :position, :message_id, :role, :created, :index_data, :checksum, :encoding, :payload, :blob);

-- name: advance_session
-- After an append.
UPDATE luminora_sessions SET last_position = :last, updated_at_us = :updated, summary = :summary WHERE sid = :sid;

-- name: end_session_at
-- After a cut.
UPDATE luminora_sessions SET last_position = :last, updated_at_us = :updated WHERE sid = :sid;

-- name: read_messages
-- Those above :after and below :before, but only the last :newest of them (a large number: all), and at most :count
-- (-1: all). A live session without such a message is one row of NULLs behind its last position.
SELECT s.last_position, m.position, m.message_id, m.role, m.created_at_us,
       m.checksum, m.encoding, coalesce(m.payload, m.blob) AS data
  FROM luminora_sessions AS s
  LEFT JOIN luminora_messages AS m
    ON m.place < (s.sid << 32) + min(:before, 4294967296)
   AND m.place > (s.sid << 32) + max(:after, min(s.last_position, :before - 1) - :newest)
 WHERE s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
 ORDER BY m.place LIMIT :count;

-- name: read_index
-- As read_messages.
SELECT s.last_position, m.position, m.message_id, m.role, m.created_at_us, m.index_data
  FROM luminora_sessions AS s
  LEFT JOIN luminora_messages AS m
    ON m.place < (s.sid << 32) + min(:before, 4294967296)
   AND m.place > (s.sid << 32) + max(:after, min(s.last_position, :before - 1) - :newest)
 WHERE s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
 ORDER BY m.place LIMIT :count;

-- name: read_index_at
SELECT NULL, position, message_id, role, created_at_us, index_data
  FROM luminora_messages
 WHERE place IN (SELECT (:sid << 32) + value FROM json_each(:positions));

-- name: put_index
UPDATE luminora_messages SET index_data = :index_data WHERE place = (:sid << 32) + :position;

-- name: find_message
SELECT NULL, m.position, m.message_id, m.role, m.created_at_us,
       m.checksum, m.encoding, coalesce(m.payload, m.blob) AS data
  FROM luminora_sessions AS s JOIN luminora_messages AS m ON m.sid = s.sid
 WHERE s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND m.message_id = :message_id;

-- name: read_messages_at
SELECT NULL, position, message_id, role, created_at_us, checksum, encoding, coalesce(payload, blob) AS data
  FROM luminora_messages
 WHERE place IN (SELECT (:sid << 32) + value FROM json_each(:positions))
 ORDER BY place;

-- name: count_roles
SELECT role, count(*) FROM luminora_messages
 WHERE place > (:sid << 32) + :after AND place <= (:sid << 32) + :last GROUP BY role;

-- name: copy_messages
-- Into another session. moved_checksum is a function of rows.py.
INSERT INTO luminora_messages
       (place, sid, position, message_id, role, created_at_us, index_data, checksum, encoding, payload, blob)
SELECT (:new_sid << 32) + position, :new_sid, position, message_id, role, created_at_us, index_data,
       moved_checksum(:seed, :new_seed, checksum, CAST(message_id AS BLOB), CAST(role AS BLOB),
                      CAST(created_at_us AS BLOB), CAST(encoding AS BLOB), CAST(coalesce(payload, blob, '') AS BLOB)),
       encoding, payload, blob
  FROM luminora_messages
 WHERE place > :sid << 32 AND place <= (:sid << 32) + :last
 ORDER BY place;

-- name: truncate_messages
DELETE FROM luminora_messages WHERE place > (:sid << 32) + :after AND place < (:sid + 1) << 32;

-- name: rewrite_message
UPDATE luminora_messages
   SET checksum = :checksum, encoding = :encoding, payload = :payload, blob = :blob
 WHERE place = (:sid << 32) + :position;


-- ---- memories -------------------------------------------------------------------------------
-- The same statements for both scopes. :owner is a session's id, or the SHA-256 of a user's id.

-- name: find_session_memory
SELECT key, expires_at_us, retention, m.created_at_us, m.updated_at_us, m.version, checksum, encoding,
       coalesce(payload, blob) AS data
  FROM luminora_sessions AS s JOIN luminora_session_memories AS m ON m.sid = s.sid
 WHERE s.session_id = :owner AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: find_user_memory
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, checksum, encoding,
       coalesce(payload, blob) AS data
  FROM luminora_user_memories
 WHERE user_digest = :owner AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: list_session_memories
SELECT key, expires_at_us, retention, m.created_at_us, m.updated_at_us, m.version, checksum, encoding,
       coalesce(payload, blob) AS data
  FROM luminora_sessions AS s JOIN luminora_session_memories AS m ON m.sid = s.sid
 WHERE s.session_id = :owner AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY m.created_at_us, key;

-- name: list_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, checksum, encoding,
       coalesce(payload, blob) AS data
  FROM luminora_user_memories
 WHERE user_digest = :owner AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY created_at_us, key;

-- name: page_of_session_memories
-- By key, from :low to below :high, without :after. Payloads only if :whole.
SELECT key, expires_at_us, retention, m.created_at_us, m.updated_at_us, m.version, checksum, encoding,
       iif(:whole, coalesce(payload, blob), NULL) AS data
  FROM luminora_sessions AS s JOIN luminora_session_memories AS m ON m.sid = s.sid
 WHERE s.session_id = :owner AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key LIMIT :count;

-- name: page_of_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, checksum, encoding,
       iif(:whole, coalesce(payload, blob), NULL) AS data
  FROM luminora_user_memories
 WHERE user_digest = :owner
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key LIMIT :count;

-- name: page_backwards_of_session_memories
SELECT key, expires_at_us, retention, m.created_at_us, m.updated_at_us, m.version, checksum, encoding,
       iif(:whole, coalesce(payload, blob), NULL) AS data
  FROM luminora_sessions AS s JOIN luminora_session_memories AS m ON m.sid = s.sid
 WHERE s.session_id = :owner AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key DESC LIMIT :count;

-- name: page_backwards_of_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, checksum, encoding,
       iif(:whole, coalesce(payload, blob), NULL) AS data
  FROM luminora_user_memories
 WHERE user_digest = :owner
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key DESC LIMIT :count;

-- name: list_memory_owners
SELECT min(user_digest), user_id FROM luminora_user_memories
 WHERE user_id >= :low AND user_id < :high AND user_id <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 GROUP BY user_id ORDER BY user_id LIMIT :count;

-- name: find_session_memory_version
SELECT version FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = :owner)
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: find_user_memory_version
SELECT version FROM luminora_user_memories
 WHERE user_digest = :owner AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: put_session_memory
-- No row: no live session, or its version is not :expected. A memory that is replaced keeps its time of creation and
-- its version is raised, unless it had expired.
INSERT INTO luminora_session_memories AS old
       (sid, key, expires_at_us, retention, created_at_us, updated_at_us, version, checksum, encoding, payload, blob)
SELECT sid, :key, :expires, :retention, :created, :now, 1, :checksum, :encoding, :payload, :blob
  FROM luminora_sessions AS s
 WHERE s.session_id = :owner AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND (coalesce(:expected, 0) = 0
        OR EXISTS (SELECT 1 FROM luminora_session_memories AS m WHERE m.sid = s.sid AND m.key = :key))
ON CONFLICT (sid, key) DO UPDATE
   SET expires_at_us = excluded.expires_at_us, retention = excluded.retention,
       created_at_us = iif(old.expires_at_us <= :now, excluded.created_at_us, old.created_at_us),
       updated_at_us = excluded.updated_at_us, version = iif(old.expires_at_us <= :now, 1, old.version + 1),
       checksum = excluded.checksum, encoding = excluded.encoding, payload = excluded.payload, blob = excluded.blob
 WHERE :expected IS NULL OR :expected = iif(old.expires_at_us <= :now, 0, old.version)
RETURNING created_at_us, version;

-- name: put_user_memory
INSERT INTO luminora_user_memories AS old
       (user_digest, user_id, key, expires_at_us, retention, created_at_us, updated_at_us,
        version, checksum, encoding, payload, blob)
SELECT :owner, :user, :key, :expires, :retention, :created, :now, 1, :checksum, :encoding, :payload, :blob
 WHERE coalesce(:expected, 0) = 0
    OR EXISTS (SELECT 1 FROM luminora_user_memories WHERE user_digest = :owner AND key = :key)
ON CONFLICT (user_digest, key) DO UPDATE
   SET expires_at_us = excluded.expires_at_us, retention = excluded.retention,
       created_at_us = iif(old.expires_at_us <= :now, excluded.created_at_us, old.created_at_us),
       updated_at_us = excluded.updated_at_us, version = iif(old.expires_at_us <= :now, 1, old.version + 1),
       checksum = excluded.checksum, encoding = excluded.encoding, payload = excluded.payload, blob = excluded.blob
 WHERE :expected IS NULL OR :expected = iif(old.expires_at_us <= :now, 0, old.version)
RETURNING created_at_us, version;

-- name: evict_session_memories
-- Delete what has expired in a scope and, besides :keys (a JSON array), all but the :others with the highest retention.
DELETE FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = :owner)
   AND key NOT IN (SELECT value FROM json_each(:keys))
   AND (expires_at_us <= :now
        OR key IN (SELECT key FROM luminora_session_memories
                    WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = :owner)
                      AND key NOT IN (SELECT value FROM json_each(:keys))
                      AND (expires_at_us IS NULL OR expires_at_us > :now)
                      AND retention < 1e300
                    ORDER BY retention DESC, updated_at_us DESC, key DESC LIMIT -1 OFFSET :others));

-- name: evict_user_memories
DELETE FROM luminora_user_memories
 WHERE user_digest = :owner AND key NOT IN (SELECT value FROM json_each(:keys))
   AND (expires_at_us <= :now
        OR key IN (SELECT key FROM luminora_user_memories
                    WHERE user_digest = :owner AND key NOT IN (SELECT value FROM json_each(:keys))
                      AND (expires_at_us IS NULL OR expires_at_us > :now)
                      AND retention < 1e300
                    ORDER BY retention DESC, updated_at_us DESC, key DESC LIMIT -1 OFFSET :others));

-- name: rewrite_session_memory
-- Payload and expiry, on which the checksum depends.
UPDATE luminora_session_memories
   SET expires_at_us = :expires, checksum = :checksum, encoding = :encoding, payload = :payload, blob = :blob
 WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = :owner) AND key = :key;

-- name: rewrite_user_memory
UPDATE luminora_user_memories
   SET expires_at_us = :expires, checksum = :checksum, encoding = :encoding, payload = :payload, blob = :blob
 WHERE user_digest = :owner AND key = :key;

-- name: delete_session_memory
DELETE FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: delete_user_memory
DELETE FROM luminora_user_memories
 WHERE user_digest = :owner AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: clear_session_memories
DELETE FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: clear_user_memories
DELETE FROM luminora_user_memories
 WHERE user_digest = :owner AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: delete_expired_session_memories
DELETE FROM luminora_session_memories WHERE expires_at_us <= :now;

-- name: delete_expired_user_memories
DELETE FROM luminora_user_memories WHERE expires_at_us <= :now;

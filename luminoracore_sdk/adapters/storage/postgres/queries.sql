-- The statements of PostgreSQLStorage. Each can be pasted into psql after \set for its parameters.
--
-- :now is the time of the call in microseconds since 1970. A session whose updated_at_us + ttl_us, or a memory
-- whose expires_at_us, is not above it counts as absent.
--
-- The minute of activity is updated_at_us / 60000000; listings by activity have an index on it.
--
-- Everything that writes messages locks the row of the session first. That orders the writers of a session,
-- and none of them waits for one that waits for it.

-- name: ping
SELECT 1;

-- name: stored_version
SELECT version_num FROM luminora_version;

-- name: store_version
-- The table has one row.
WITH updated AS (UPDATE luminora_version SET version_num = :version RETURNING 1)
INSERT INTO luminora_version (version_num) SELECT :version WHERE NOT EXISTS (SELECT FROM updated);

-- name: table_exists
SELECT to_regclass(:name) IS NOT NULL;

-- name: schema_exists
SELECT to_regnamespace(quote_ident(:name)) IS NOT NULL;

-- name: lock_migrations
SELECT pg_advisory_xact_lock(:lock);

-- name: mark_watched
-- Let writers notify for a minute; each says which session it changed by the digest of its id, since every role may
-- listen. The rows are locked in one order, so that such statements cannot deadlock.
WITH watched AS (
    SELECT sid FROM luminora_sessions WHERE session_id = ANY (:sessions) ORDER BY sid FOR NO KEY UPDATE
)
UPDATE luminora_sessions AS s
   SET watched_until = now() + interval '60 seconds'
  FROM watched
 WHERE s.sid = watched.sid;

-- name: put_session
-- Create or replace a header and its document. No row: an expired session has the id.
WITH session AS (
    INSERT INTO luminora_sessions AS s
           (session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, active, version, last_position,
            user_messages, assistant_messages, system_messages, tool_messages, counters,
            first_brief_position, first_brief, last_brief_position, last_brief, card)
    VALUES (:session, :owner, :tags, :ttl, :created, :now::bigint, :now::bigint / 60000000, 1, 0,
            :user, :assistant, :system, :tool, :adds::text::jsonb,
            :first_place, :first_brief, :last_place, :last_brief, :card)
        ON CONFLICT (session_id) DO UPDATE
       SET user_id = :owner, tags = :tags, ttl_us = :ttl, updated_at_us = greatest(:now, s.updated_at_us),
           active = greatest(:now, s.updated_at_us) / 60000000, version = s.version + 1,
           card = :card
     WHERE s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now
 RETURNING *
), document AS (
    INSERT INTO luminora_documents (sid, encoding, payload, blob)
    SELECT sid, :encoding, :payload, :blob FROM session
        ON CONFLICT (sid) DO UPDATE
       SET encoding = excluded.encoding, payload = excluded.payload, blob = excluded.blob
)
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card, changes, fence,
       holder, lease_until_us
  FROM session;

-- name: create_session
-- Create a header and its document; a fork begins with messages up to :last. No row: the id is in use, perhaps by
-- an expired session.
WITH session AS (
    INSERT INTO luminora_sessions
           (session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, active, version, last_position,
            user_messages, assistant_messages, system_messages, tool_messages, counters,
            first_brief_position, first_brief, last_brief_position, last_brief, card)
    VALUES (:session, :owner, :tags, :ttl, :created, :now::bigint, :now::bigint / 60000000, 1, :last,
            :user, :assistant, :system, :tool, :adds::text::jsonb,
            :first_place, :first_brief, :last_place, :last_brief, :card)
        ON CONFLICT (session_id) DO NOTHING
 RETURNING *
), document AS (
    INSERT INTO luminora_documents (sid, encoding, payload, blob)
    SELECT sid, :encoding, :payload, :blob FROM session
)
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card, changes, fence,
       holder, lease_until_us, sid
  FROM session;

-- name: update_session
-- Replace a header of a known version and its document. No row: no such session, or another version.
WITH session AS (
    UPDATE luminora_sessions
       SET user_id = :owner, tags = :tags, ttl_us = :ttl, updated_at_us = greatest(:now, updated_at_us),
           active = greatest(:now, updated_at_us) / 60000000, version = version + 1,
           card = :card
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       AND version = :expected_version
 RETURNING *
), document AS (
    INSERT INTO luminora_documents (sid, encoding, payload, blob)
    SELECT sid, :encoding, :payload, :blob FROM session
        ON CONFLICT (sid) DO UPDATE
       SET encoding = excluded.encoding, payload = excluded.payload, blob = excluded.blob
)
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card, changes, fence,
       holder, lease_until_us
  FROM session;

-- name: lock_session
-- Lock the row of a session, expired or not, to find out why another statement did not apply.
SELECT sid, version, last_position, last_change, fence, holder, lease_until_us,
       ttl_us IS NULL OR updated_at_us + ttl_us > :now AS is_live
  FROM luminora_sessions
 WHERE session_id = :session
   FOR NO KEY UPDATE;

-- name: find_session
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card, changes, fence,
       holder, lease_until_us,
       encoding, payload, blob
  FROM luminora_sessions LEFT JOIN luminora_documents USING (sid)
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now);

-- name: fork_source
-- A session, and how many messages of each role it has up to a position; one row if there are none.
SELECT s.sid, last_position, role, count(position)
  FROM luminora_sessions AS s LEFT JOIN luminora_messages AS m ON m.sid = s.sid AND position <= :at
 WHERE session_id = :session AND (ttl_us IS NULL OR s.updated_at_us + ttl_us > :now)
 GROUP BY s.sid, last_position, role;

-- name: copy_messages
INSERT INTO luminora_messages (sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob)
SELECT :sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob
  FROM luminora_messages
 WHERE sid = :source AND position <= :at;

-- name: insert_messages
INSERT INTO luminora_messages (sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob)
SELECT :sid, position, id, role, time, index_data, encoding, payload, blob
  FROM unnest(:positions::bigint[], :ids::text[], :roles::text[], :times::bigint[], :indexes::bytea[],
              :encodings::text[], :payloads::text[], :blobs::bytea[])
       AS m (position, id, role, time, index_data, encoding, payload, blob);

-- name: delete_session
-- Delete a header; its document and memories go by their foreign keys, its messages by delete_messages.
DELETE FROM luminora_sessions
 WHERE session_id = :session
RETURNING sid, ttl_us IS NULL OR updated_at_us + ttl_us > :now AS is_live,
          CASE WHEN watched_until > now()
               THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(session_id, 'UTF8')), 'hex')) END;

-- name: purge_sessions
-- A session that another transaction uses or deletes is skipped.
WITH expired AS (
    SELECT sid
      FROM luminora_sessions
     WHERE ttl_us IS NOT NULL AND updated_at_us + ttl_us <= :now
     LIMIT :count
       FOR UPDATE SKIP LOCKED
)
DELETE FROM luminora_sessions WHERE sid IN (SELECT sid FROM expired)
RETURNING sid;

-- name: rewrite_session
UPDATE luminora_documents AS d
   SET encoding = :encoding, payload = :payload, blob = :blob
  FROM luminora_sessions AS s
 WHERE d.sid = s.sid AND s.session_id = :session AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
   AND d.encoding = :old_encoding AND d.payload IS NOT DISTINCT FROM :old_payload
   AND d.blob IS NOT DISTINCT FROM :old_blob
RETURNING 1;

-- name: rewrite_texts
UPDATE luminora_sessions
   SET card = :card, first_brief_position = :first_place, first_brief = :first_brief,
       last_brief_position = :last_place, last_brief = :last_brief
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND card IS NOT DISTINCT FROM :old_card
   AND first_brief_position IS NOT DISTINCT FROM :old_first_place AND first_brief IS NOT DISTINCT FROM :old_first_brief
   AND last_brief_position IS NOT DISTINCT FROM :old_last_place AND last_brief IS NOT DISTINCT FROM :old_last_brief
RETURNING 1;

-- name: acquire_lease
-- No row: no live session, or another holder has the lease.
UPDATE luminora_sessions
   SET fence = CASE WHEN lease_until_us > :now THEN fence ELSE coalesce(fence + 1, :now) END,
       holder = :holder, lease_until_us = :until
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND (lease_until_us IS NULL OR lease_until_us <= :now OR holder = :holder)
RETURNING fence;

-- name: release_lease
UPDATE luminora_sessions
   SET lease_until_us = :now
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now) AND fence = :fence
RETURNING 1;

-- name: list_sessions
-- The storage omits the lines of the conditions that a query does not have, so that each query gets the plan of
-- its own index, also once the server plans without looking at the values. The columns behind last_change are left out
-- where texts are not wanted.
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND tags @> :tags
   AND NOT tags @> :without_tags
   AND created_at_us >= :created_after
   AND created_at_us < :created_before
   AND (created_at_us, session_id) > (:cursor_time, :cursor_id)
 ORDER BY created_at_us, session_id
 LIMIT :count;

-- name: list_sessions_newest_first
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND tags @> :tags
   AND NOT tags @> :without_tags
   AND created_at_us >= :created_after
   AND created_at_us < :created_before
   AND (created_at_us, session_id) < (:cursor_time, :cursor_id)
 ORDER BY created_at_us DESC, session_id DESC
 LIMIT :count;

-- name: list_active_sessions
-- The index gives the order by minute; the server sorts the sessions of one minute at a time.
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND tags @> :tags
   AND NOT tags @> :without_tags
   AND created_at_us >= :created_after
   AND created_at_us < :created_before
   AND (active, updated_at_us, session_id) > (:cursor_time::bigint / 60000000, :cursor_time, :cursor_id)
 ORDER BY active, updated_at_us, session_id
 LIMIT :count;

-- name: list_active_sessions_newest_first
SELECT session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change,
       user_messages, assistant_messages, system_messages, tool_messages, counters::text,
       first_brief_position, first_brief, last_brief_position, last_brief, card
  FROM luminora_sessions
 WHERE (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   AND user_id = :user
   AND tags @> :tags
   AND NOT tags @> :without_tags
   AND created_at_us >= :created_after
   AND created_at_us < :created_before
   AND (active, updated_at_us, session_id) < (:cursor_time::bigint / 60000000, :cursor_time, :cursor_id)
 ORDER BY active DESC, updated_at_us DESC, session_id DESC
 LIMIT :count;

-- name: append_message
-- One message that adds to three counters at most: takes the server 0.06 of 0.48 ms less than append_messages
-- (PostgreSQL 18). The storage omits the lines of what it does not have; of three names some may be '', which is no
-- counter. No row: no live session, or its last position or fence is not the expected one.
WITH session AS (
    UPDATE luminora_sessions
       SET last_position = last_position + 1, updated_at_us = greatest(:now, updated_at_us),
           user_messages = user_messages + :user,
           assistant_messages = assistant_messages + :assistant,
           system_messages = system_messages + :system,
           tool_messages = tool_messages + :tool,
           counters = jsonb_strip_nulls(coalesce(counters, '{}') || jsonb_build_object(:name_1::text,
               nullif(:number_1::bigint + coalesce((counters -> :name_1)::bigint, 0), 0),
               :name_2::text, nullif(:number_2::bigint + coalesce((counters -> :name_2)::bigint, 0), 0),
               :name_3::text, nullif(:number_3::bigint + coalesce((counters -> :name_3)::bigint, 0), 0))),
           first_brief_position = coalesce(first_brief_position, last_position + :first_place),
           first_brief = coalesce(first_brief, :first_brief),
           last_brief_position = last_position + :last_place,
           last_brief = :last_brief,
           active = greatest(:now, updated_at_us) / 60000000
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       AND (last_position = :expected_last OR :expected_last IS NULL) AND (fence = :fence OR :fence IS NULL)
 RETURNING sid, last_position,
           CASE WHEN watched_until > now()
                THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(session_id, 'UTF8')), 'hex')) END
)
INSERT INTO luminora_messages (sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob)
SELECT sid, last_position, :id, :role, :time, :index_data, :encoding, :payload, :blob FROM session
RETURNING position;

-- name: append_messages
-- Any number of messages to one session.
WITH session AS (
    UPDATE luminora_sessions
       SET last_position = last_position + cardinality(:ids::text[]), updated_at_us = greatest(:now, updated_at_us),
           active = greatest(:now, updated_at_us) / 60000000,
           user_messages = user_messages + :user,
           assistant_messages = assistant_messages + :assistant,
           system_messages = system_messages + :system,
           tool_messages = tool_messages + :tool,
           counters = CASE WHEN :adds::text IS NULL THEN counters ELSE jsonb_strip_nulls(coalesce(counters, '{}') || (
               SELECT jsonb_object_agg(name, nullif(number::bigint + coalesce((counters -> name)::bigint, 0), 0))
                 FROM jsonb_each(:adds::text::jsonb) AS a (name, number))) END,
           first_brief_position = coalesce(first_brief_position, last_position + :first_place),
           first_brief = coalesce(first_brief, CASE WHEN :first_place = :last_place THEN :last_brief::bytea
                                                    ELSE :first_brief END),
           last_brief_position = coalesce(last_position + :last_place, last_brief_position),
           last_brief = coalesce(:last_brief, last_brief)
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       AND (last_position = :expected_last OR :expected_last IS NULL) AND (fence = :fence OR :fence IS NULL)
 RETURNING sid, last_position,
           CASE WHEN watched_until > now()
                THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(session_id, 'UTF8')), 'hex')) END
), messages AS (
    INSERT INTO luminora_messages (sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob)
    SELECT sid, last_position - cardinality(:ids) + n, id, role, time, index_data, encoding, payload, blob
      FROM session,
           unnest(:ids, :roles::text[], :times::bigint[], :indexes::bytea[], :encodings::text[], :payloads::text[],
                  :blobs::bytea[])
           WITH ORDINALITY AS m (id, role, time, index_data, encoding, payload, blob, n)
)
SELECT last_position FROM session;

-- name: append_group
-- Any number of messages to each of many sessions. The statement waits for no lock, so groups cannot deadlock:
-- a session that another transaction has locked is skipped, like one that is absent, expired or at another
-- position than expected. The lists from :sessions to :last_briefs have an item for each session; the others have
-- an item for each message, with the number of its session (from 1) and its place among the new messages
-- of that session (from 1). :sizes, :numbers and :places are empty where each session gets one message, and :encodings
-- where :encoding is that of all messages: asyncpg takes up to 0.3 µs for each item of a list. An item of :folds is
-- six numbers of 10 bits, the lowest first: the messages of the four roles, the place of the first brief of a user and
-- that of the last brief, 0 being none. One of :adds is a list of three names of counters, each before its number; ''
-- is no counter. Returns the sessions that were written.
WITH wanted AS (
    SELECT sid, w.*, coalesce(given_size, 1) AS size, added::jsonb AS adds
      FROM luminora_sessions AS s,
           unnest(:sessions::text[], :expected_lasts::bigint[], :sizes::bigint[], :folds::bigint[], :adds::text[],
                  :first_briefs::bytea[], :last_briefs::bytea[])
           WITH ORDINALITY AS w (session_id, expected_last, given_size, fold, added, first, last, number)
     WHERE s.session_id = w.session_id AND (s.ttl_us IS NULL OR s.updated_at_us + s.ttl_us > :now)
       AND (w.expected_last IS NULL OR s.last_position = w.expected_last)
       FOR NO KEY UPDATE OF s SKIP LOCKED
), session AS (
    UPDATE luminora_sessions AS s
       SET last_position = last_position + size, updated_at_us = greatest(:now, updated_at_us),
           active = greatest(:now, updated_at_us) / 60000000,
           user_messages = user_messages + (fold & 1023),
           assistant_messages = assistant_messages + (fold >> 10 & 1023),
           system_messages = system_messages + (fold >> 20 & 1023),
           tool_messages = tool_messages + (fold >> 30 & 1023),
           counters = CASE WHEN adds IS NULL THEN counters ELSE jsonb_strip_nulls(
               coalesce(counters, '{}') || jsonb_build_object(
                   adds ->> 0, nullif((adds -> 1)::bigint + coalesce((counters -> (adds ->> 0))::bigint, 0), 0),
                   adds ->> 2, nullif((adds -> 3)::bigint + coalesce((counters -> (adds ->> 2))::bigint, 0), 0),
                   adds ->> 4, nullif((adds -> 5)::bigint + coalesce((counters -> (adds ->> 4))::bigint, 0), 0))) END,
           first_brief_position = coalesce(first_brief_position, last_position + nullif(fold >> 40 & 1023, 0)),
           first_brief = coalesce(first_brief, first, CASE WHEN (fold >> 40 & 1023) = (fold >> 50) THEN last END),
           last_brief_position = coalesce(last_position + nullif(fold >> 50, 0), last_brief_position),
           last_brief = coalesce(last, last_brief)
      FROM wanted AS w
     WHERE s.sid = w.sid
 RETURNING s.sid, s.session_id, last_position, size, number,
           CASE WHEN s.watched_until > now()
                THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(s.session_id, 'UTF8')), 'hex')) END
), messages AS (
    INSERT INTO luminora_messages (sid, position, message_id, role, created_at_us, index_data, encoding, payload, blob)
    SELECT sid, last_position - size + coalesce(place, 1), id, role, time, index_data, coalesce(encoding, :encoding),
           payload, blob
      FROM session AS s
      JOIN unnest(:numbers::bigint[], :places::bigint[], :ids::text[], :roles::text[], :times::bigint[],
                  :indexes::bytea[], :encodings::text[], :payloads::text[], :blobs::bytea[])
           WITH ORDINALITY AS m (number, place, id, role, time, index_data, encoding, payload, blob, n)
        ON s.number = coalesce(m.number, n)
)
SELECT session_id, last_position FROM session;

-- name: stored_positions
SELECT message_id, position FROM luminora_messages WHERE sid = :sid AND message_id = ANY (:ids);

-- name: read_oldest_messages
-- Each row begins with the last position of the session; a session without such messages gives one row. The
-- range is a subquery so that the index gives the order and the limit ends the search.
SELECT last_position, m.*
  FROM luminora_sessions AS s
  LEFT JOIN LATERAL (
       SELECT position, message_id, role, created_at_us, encoding, payload, blob
         FROM luminora_messages
        WHERE sid = s.sid AND position > :after AND position < :before
        ORDER BY position
        LIMIT :count
       ) AS m ON true
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
 ORDER BY position;

-- name: read_newest_messages
SELECT last_position, m.*
  FROM luminora_sessions AS s
  LEFT JOIN LATERAL (
       SELECT position, message_id, role, created_at_us, encoding, payload, blob
         FROM luminora_messages
        WHERE sid = s.sid AND position > :after AND position < :before
        ORDER BY position DESC
        LIMIT :count
       ) AS m ON true
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
 ORDER BY position;

-- name: read_oldest_index
-- As read_oldest_messages.
SELECT last_position, m.*
  FROM luminora_sessions AS s
  LEFT JOIN LATERAL (
       SELECT position, message_id, role, created_at_us, index_data
         FROM luminora_messages
        WHERE sid = s.sid AND position > :after AND position < :before
        ORDER BY position
        LIMIT :count
       ) AS m ON true
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
 ORDER BY position;

-- name: read_newest_index
SELECT last_position, m.*
  FROM luminora_sessions AS s
  LEFT JOIN LATERAL (
       SELECT position, message_id, role, created_at_us, index_data
         FROM luminora_messages
        WHERE sid = s.sid AND position > :after AND position < :before
        ORDER BY position DESC
        LIMIT :count
       ) AS m ON true
 WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
 ORDER BY position;

-- name: find_message
SELECT last_position, position, message_id, role, m.created_at_us, encoding, payload, blob
  FROM luminora_sessions AS s JOIN luminora_messages AS m USING (sid)
 WHERE session_id = :session AND (ttl_us IS NULL OR s.updated_at_us + ttl_us > :now) AND message_id = :id;

-- name: read_turn
-- The header (kind 0), the memories (1) and the newest messages (2) of a session, as of one moment, in any order.
WITH session AS (
    SELECT sid, session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position
      FROM luminora_sessions
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
)
SELECT 0 AS kind, last_position AS position, session_id AS name, user_id AS other, created_at_us,
       encoding, payload, blob, updated_at_us, ttl_us AS expires, tags, version, NULL::float8 AS retention
  FROM session LEFT JOIN luminora_documents USING (sid)
 UNION ALL
SELECT 1, NULL, key, NULL, m.created_at_us,
       encoding, payload, blob, m.updated_at_us, expires_at_us, NULL, m.version, retention
  FROM session JOIN luminora_session_memories AS m USING (sid)
 WHERE expires_at_us IS NULL OR expires_at_us > :now
 UNION ALL
SELECT 2, m.position, message_id, role, m.created_at_us,
       encoding, payload, blob, NULL, NULL, NULL, NULL, NULL
  FROM session
 CROSS JOIN LATERAL (
       SELECT position, message_id, role, created_at_us, encoding, payload, blob
         FROM luminora_messages
        WHERE sid = session.sid
        ORDER BY position DESC
        LIMIT :count
       ) AS m;

-- name: cut_messages
-- Delete the messages above a position and fold that into the header, whose row is locked. Returns their number.
WITH removed AS (
    DELETE FROM luminora_messages WHERE sid = :sid AND position > :after RETURNING role
), lost AS (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE role = 'user') AS users, count(*) FILTER (WHERE role = 'assistant') AS assistants,
           count(*) FILTER (WHERE role = 'system') AS systems, count(*) FILTER (WHERE role = 'tool') AS tools
      FROM removed
), cut AS (
    UPDATE luminora_sessions
       SET last_position = least(last_position, :after), updated_at_us = greatest(:now, updated_at_us),
           active = greatest(:now, updated_at_us) / 60000000,
           user_messages = user_messages - users,
           assistant_messages = assistant_messages - assistants,
           system_messages = system_messages - systems,
           tool_messages = tool_messages - tools,
           first_brief_position = CASE WHEN first_brief_position <= :after THEN first_brief_position END,
           first_brief = CASE WHEN first_brief_position <= :after THEN first_brief END,
           last_brief_position = CASE WHEN last_brief_position <= :after THEN last_brief_position END,
           last_brief = CASE WHEN last_brief_position <= :after THEN last_brief END,
           changes = CASE WHEN total = 0 THEN changes
                          WHEN cardinality(changes) = :most
                          THEN least(changes[1], changes[2]) / 2 * 2 || changes[3:] || :change::bigint
                          ELSE changes || :change::bigint END,
           last_change = CASE WHEN total = 0 THEN last_change ELSE coalesce(last_change, 0) + 1 END
      FROM lost
     WHERE sid = :sid
 RETURNING CASE WHEN watched_until > now()
                THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(session_id, 'UTF8')), 'hex')) END
)
SELECT total FROM lost;

-- name: delete_messages
DELETE FROM luminora_messages WHERE sid = ANY (:sids);

-- name: rewrite_messages
-- Replace each payload that is still the old one; returns how many were replaced.
WITH session AS (
    SELECT sid
      FROM luminora_sessions
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       FOR NO KEY UPDATE
), rewritten AS (
    UPDATE luminora_messages AS m
       SET encoding = r.encoding, payload = r.payload, blob = r.blob
      FROM session,
           unnest(:positions::bigint[], :ids::text[], :old_encodings::text[], :old_payloads::text[],
                  :old_blobs::bytea[], :encodings::text[], :payloads::text[], :blobs::bytea[])
           AS r (position, id, old_encoding, old_payload, old_blob, encoding, payload, blob)
     WHERE m.sid = session.sid AND m.position = r.position AND m.message_id = r.id
       AND m.encoding = r.old_encoding AND m.payload IS NOT DISTINCT FROM r.old_payload
       AND m.blob IS NOT DISTINCT FROM r.old_blob
 RETURNING 1
)
SELECT count(*) FROM rewritten;

-- name: rewrite_index
-- Replace each index that is still the old one; returns how many were replaced.
WITH session AS (
    SELECT sid
      FROM luminora_sessions
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       FOR NO KEY UPDATE
), rewritten AS (
    UPDATE luminora_messages AS m
       SET index_data = r.index_data
      FROM session,
           unnest(:positions::bigint[], :ids::text[], :old_indexes::bytea[], :indexes::bytea[])
           AS r (position, id, old_index_data, index_data)
     WHERE m.sid = session.sid AND m.position = r.position AND m.message_id = r.id
       AND m.index_data IS NOT DISTINCT FROM r.old_index_data
 RETURNING 1
)
SELECT count(*) FROM rewritten;

-- name: update_message
-- Replace a payload that is still the old one with its index, and the brief where the header has that of the message.
-- No row: no live session, no such message, or another payload. What the session's lock waited for is not seen, but the
-- message is looked at again.
WITH session AS (
    SELECT sid
      FROM luminora_sessions
     WHERE session_id = :session AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       FOR NO KEY UPDATE
), updated AS (
    UPDATE luminora_messages AS m
       SET index_data = :index_data, encoding = :encoding, payload = :payload, blob = :blob
      FROM session
     WHERE m.sid = session.sid AND position = :position AND message_id = :id AND encoding = :old_encoding
       AND payload IS NOT DISTINCT FROM :old_payload AND blob IS NOT DISTINCT FROM :old_blob
 RETURNING m.sid
)
UPDATE luminora_sessions AS s
   SET first_brief_position = CASE WHEN first_brief_position = :position THEN :place ELSE first_brief_position END,
       first_brief = CASE WHEN first_brief_position = :position THEN :brief ELSE first_brief END,
       last_brief_position = CASE WHEN last_brief_position = :position THEN :place ELSE last_brief_position END,
       last_brief = CASE WHEN last_brief_position = :position THEN :brief ELSE last_brief END,
       changes = CASE WHEN cardinality(changes) = :most
                      THEN least(changes[1], changes[2]) / 2 * 2 || changes[3:] || :change::bigint
                      ELSE changes || :change::bigint END,
       last_change = coalesce(last_change, 0) + 1
  FROM updated
 WHERE s.sid = updated.sid
RETURNING CASE WHEN s.watched_until > now()
               THEN pg_notify('luminoracore_changes', encode(sha256(convert_to(s.session_id, 'UTF8')), 'hex')) END;

-- Memories: a statement for sessions and one for users. :owner is the id of the session or user.
-- Whatever changes several memories of a scope locks the scope in a statement before, so that two such calls never wait
-- for each other, and each sees what was written while it waited.

-- name: lock_session_memories
-- No row: no live session.
SELECT sid
  FROM luminora_sessions
 WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
   FOR NO KEY UPDATE;

-- name: lock_user_memories
SELECT pg_advisory_xact_lock(:lock);

-- name: put_session_memories
-- Returns a row for each memory that was put: none for one whose version is not :expected. A memory that is replaced
-- keeps its time of creation and its version is raised, unless it had expired. :fresh are the keys of which :expected
-- is 0. The lock keeps the session from being deleted meanwhile, and does not wait for appends.
WITH session AS (
    SELECT sid
      FROM luminora_sessions
     WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       FOR KEY SHARE
), given AS (
    SELECT *
      FROM unnest(:keys::text[], :expected::bigint[], :expiries::bigint[], :retentions::text[], :created::bigint[],
                  :encodings::text[], :payloads::text[], :blobs::bytea[])
        AS given (key, expected, expires_at_us, retention, created_at_us, encoding, payload, blob)
), replaced AS (
    UPDATE luminora_session_memories AS m
       SET expires_at_us = given.expires_at_us, retention = given.retention::float8, updated_at_us = :now,
           version = m.version + 1, encoding = given.encoding, payload = given.payload, blob = given.blob
      FROM given, session
     WHERE m.sid = session.sid AND m.key = given.key AND m.version = given.expected
       AND (m.expires_at_us IS NULL OR m.expires_at_us > :now)
 RETURNING m.key, m.created_at_us, m.version
), put AS (
    INSERT INTO luminora_session_memories AS m
           (sid, key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob)
    SELECT sid, key, expires_at_us, retention::float8, created_at_us, :now, 1, encoding, payload, blob
      FROM given, session
     WHERE coalesce(expected, 0) = 0
        ON CONFLICT (sid, key) DO UPDATE
       SET expires_at_us = excluded.expires_at_us, retention = excluded.retention,
           created_at_us = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN excluded.created_at_us
                                ELSE m.created_at_us END,
           version = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN 1 ELSE m.version + 1 END,
           updated_at_us = excluded.updated_at_us, encoding = excluded.encoding, payload = excluded.payload,
           blob = excluded.blob
     WHERE m.expires_at_us <= excluded.updated_at_us OR excluded.key <> ALL (:fresh::text[])
 RETURNING m.key, m.created_at_us, m.version
)
SELECT * FROM replaced UNION ALL SELECT * FROM put;

-- name: put_group_memories
-- Puts in many sessions. The statement waits for no session, so groups cannot deadlock: a session that another
-- transaction has locked is skipped, like one that is absent or expired. Otherwise as put_session_memories, but that
-- every memory comes with its session and time, and that the rows begin with the session.
WITH given AS (
    SELECT *
      FROM unnest(:owners::text[], :nows::bigint[], :keys::text[], :expected::bigint[], :expiries::bigint[],
                  :retentions::text[], :created::bigint[], :encodings::text[], :payloads::text[], :blobs::bytea[])
        AS given (session_id, now, key, expected, expires_at_us, retention, created_at_us, encoding, payload, blob)
), session AS (
    SELECT sid, session_id
      FROM luminora_sessions
     WHERE session_id = ANY (:owners::text[]) AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now)
       FOR NO KEY UPDATE SKIP LOCKED
), wanted AS (
    SELECT * FROM given JOIN session USING (session_id)
), replaced AS (
    UPDATE luminora_session_memories AS m
       SET expires_at_us = wanted.expires_at_us, retention = wanted.retention::float8, updated_at_us = wanted.now,
           version = m.version + 1, encoding = wanted.encoding, payload = wanted.payload, blob = wanted.blob
      FROM wanted
     WHERE m.sid = wanted.sid AND m.key = wanted.key AND m.version = wanted.expected
       AND (m.expires_at_us IS NULL OR m.expires_at_us > wanted.now)
 RETURNING m.sid, m.key, m.created_at_us, m.version
), put AS (
    INSERT INTO luminora_session_memories AS m
           (sid, key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob)
    SELECT sid, key, expires_at_us, retention::float8, created_at_us, now, 1, encoding, payload, blob
      FROM wanted
     WHERE coalesce(expected, 0) = 0
        ON CONFLICT (sid, key) DO UPDATE
       SET expires_at_us = excluded.expires_at_us, retention = excluded.retention,
           created_at_us = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN excluded.created_at_us
                                ELSE m.created_at_us END,
           version = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN 1 ELSE m.version + 1 END,
           updated_at_us = excluded.updated_at_us, encoding = excluded.encoding, payload = excluded.payload,
           blob = excluded.blob
     WHERE m.expires_at_us <= excluded.updated_at_us
        OR (excluded.sid, excluded.key) NOT IN (SELECT sid, key FROM wanted WHERE expected = 0)
 RETURNING m.sid, m.key, m.created_at_us, m.version
)
SELECT session_id, stored.key, stored.created_at_us, stored.version
  FROM (SELECT * FROM replaced UNION ALL SELECT * FROM put) AS stored JOIN session USING (sid);

-- name: put_user_memories
WITH given AS (
    SELECT *
      FROM unnest(:keys::text[], :expected::bigint[], :expiries::bigint[], :retentions::text[], :created::bigint[],
                  :encodings::text[], :payloads::text[], :blobs::bytea[])
        AS given (key, expected, expires_at_us, retention, created_at_us, encoding, payload, blob)
), replaced AS (
    UPDATE luminora_user_memories AS m
       SET expires_at_us = given.expires_at_us, retention = given.retention::float8, updated_at_us = :now,
           version = m.version + 1, encoding = given.encoding, payload = given.payload, blob = given.blob
      FROM given
     WHERE m.user_digest = sha256(convert_to(:owner, 'UTF8')) AND m.key = given.key AND m.version = given.expected
       AND (m.expires_at_us IS NULL OR m.expires_at_us > :now)
 RETURNING m.key, m.created_at_us, m.version
), put AS (
    INSERT INTO luminora_user_memories AS m
           (user_digest, user_id, key, expires_at_us, retention, created_at_us, updated_at_us, version,
            encoding, payload, blob)
    SELECT sha256(convert_to(:owner, 'UTF8')), :owner, key, expires_at_us, retention::float8, created_at_us, :now, 1,
           encoding, payload, blob
      FROM given
     WHERE coalesce(expected, 0) = 0
        ON CONFLICT (user_digest, key) DO UPDATE
       SET expires_at_us = excluded.expires_at_us, retention = excluded.retention,
           created_at_us = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN excluded.created_at_us
                                ELSE m.created_at_us END,
           version = CASE WHEN m.expires_at_us <= excluded.updated_at_us THEN 1 ELSE m.version + 1 END,
           updated_at_us = excluded.updated_at_us, encoding = excluded.encoding, payload = excluded.payload,
           blob = excluded.blob
     WHERE m.expires_at_us <= excluded.updated_at_us OR excluded.key <> ALL (:fresh::text[])
 RETURNING m.key, m.created_at_us, m.version
)
SELECT * FROM replaced UNION ALL SELECT * FROM put;

-- name: find_session_memory_version
-- 0: no memory. No row: no live session.
SELECT coalesce(m.version, 0)
  FROM luminora_sessions AS s
  LEFT JOIN luminora_session_memories AS m
    ON m.sid = s.sid AND m.key = :key AND (m.expires_at_us IS NULL OR m.expires_at_us > :now)
 WHERE session_id = :owner AND (ttl_us IS NULL OR s.updated_at_us + ttl_us > :now);

-- name: find_user_memory_version
SELECT coalesce(max(version), 0)
  FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: evict_session_memories
-- Delete what has expired and the surplus of the lowest retention, but none of :keys.
DELETE FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key <> ALL (:keys::text[])
   AND (expires_at_us <= :now OR key IN (
       SELECT key
         FROM luminora_session_memories
        WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = :owner)
          AND key <> ALL (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
          AND retention < 1e300
        ORDER BY retention DESC, updated_at_us DESC, key DESC
       OFFSET :kept));

-- name: evict_user_memories
DELETE FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key <> ALL (:keys::text[])
   AND (expires_at_us <= :now OR key IN (
       SELECT key
         FROM luminora_user_memories
        WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
          AND key <> ALL (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
          AND retention < 1e300
        ORDER BY retention DESC, updated_at_us DESC, key DESC
       OFFSET :kept));

-- name: touch_session_memories
UPDATE luminora_session_memories
   SET expires_at_us = :expires_at
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key = ANY (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
RETURNING 1;

-- name: touch_user_memories
UPDATE luminora_user_memories
   SET expires_at_us = :expires_at
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key = ANY (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
RETURNING 1;

-- name: find_session_memory
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob
  FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: find_user_memory
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob
  FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now);

-- name: list_session_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob
  FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY created_at_us, key;

-- name: list_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version, encoding, payload, blob
  FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY created_at_us, key;

-- name: page_of_session_memories
-- By key, from :low to below :high, without :after. Payloads only if :whole.
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version,
       encoding, CASE WHEN :whole THEN payload END, CASE WHEN :whole THEN blob END
  FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key
 LIMIT :count;

-- name: page_of_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version,
       encoding, CASE WHEN :whole THEN payload END, CASE WHEN :whole THEN blob END
  FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key
 LIMIT :count;

-- name: page_backwards_of_session_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version,
       encoding, CASE WHEN :whole THEN payload END, CASE WHEN :whole THEN blob END
  FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key DESC
 LIMIT :count;

-- name: page_backwards_of_user_memories
SELECT key, expires_at_us, retention, created_at_us, updated_at_us, version,
       encoding, CASE WHEN :whole THEN payload END, CASE WHEN :whole THEN blob END
  FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key >= :low AND key < :high AND key <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY key DESC
 LIMIT :count;

-- name: list_memory_owners
SELECT DISTINCT user_id
  FROM luminora_user_memories
 WHERE user_id >= :low AND user_id < :high AND user_id <> :after AND (expires_at_us IS NULL OR expires_at_us > :now)
 ORDER BY user_id
 LIMIT :count;

-- name: delete_session_memories
DELETE FROM luminora_session_memories
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key = ANY (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
RETURNING 1;

-- name: delete_user_memories
DELETE FROM luminora_user_memories
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key = ANY (:keys::text[]) AND (expires_at_us IS NULL OR expires_at_us > :now)
RETURNING 1;

-- name: clear_session_memories
WITH deleted AS (
    DELETE FROM luminora_session_memories
     WHERE sid = (SELECT sid FROM luminora_sessions
                   WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
       AND (expires_at_us IS NULL OR expires_at_us > :now)
 RETURNING 1
)
SELECT count(*) FROM deleted;

-- name: clear_user_memories
WITH deleted AS (
    DELETE FROM luminora_user_memories
     WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
       AND (expires_at_us IS NULL OR expires_at_us > :now)
 RETURNING 1
)
SELECT count(*) FROM deleted;

-- name: rewrite_session_memory
UPDATE luminora_session_memories
   SET encoding = :encoding, payload = :payload, blob = :blob
 WHERE sid = (SELECT sid FROM luminora_sessions
               WHERE session_id = :owner AND (ttl_us IS NULL OR updated_at_us + ttl_us > :now))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now)
   AND encoding = :old_encoding AND payload IS NOT DISTINCT FROM :old_payload
   AND blob IS NOT DISTINCT FROM :old_blob
RETURNING 1;

-- name: rewrite_user_memory
UPDATE luminora_user_memories
   SET encoding = :encoding, payload = :payload, blob = :blob
 WHERE user_digest = sha256(convert_to(:owner, 'UTF8'))
   AND key = :key AND (expires_at_us IS NULL OR expires_at_us > :now)
   AND encoding = :old_encoding AND payload IS NOT DISTINCT FROM :old_payload
   AND blob IS NOT DISTINCT FROM :old_blob
RETURNING 1;

-- name: purge_session_memories
WITH expired AS (
    SELECT sid, key
      FROM luminora_session_memories
     WHERE expires_at_us <= :now
     LIMIT :count
       FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM luminora_session_memories WHERE (sid, key) IN (SELECT sid, key FROM expired) RETURNING 1
)
SELECT count(*) FROM deleted;

-- name: purge_user_memories
WITH expired AS (
    SELECT user_digest, key
      FROM luminora_user_memories
     WHERE expires_at_us <= :now
     LIMIT :count
       FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM luminora_user_memories
     WHERE (user_digest, key) IN (SELECT user_digest, key FROM expired)
 RETURNING 1
)
SELECT count(*) FROM deleted;

"""Memory storages that go wrong with puts, deletes, purges, memories or tenants at once; see ``Faulty``."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Page,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.testing import json_payload
from tests.support.faulty_appends import Faulty, pause

__all__ = ["FAULTY_RACES"]


class LooksForTheSessionFirst(Faulty):
    found_by = (
        "one_of_20_concurrent_creators_wins",
        "one_of_20_puts_over_one_version_wins",
    )

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        stored = self._live(record.session_id, now_us)
        version = stored.header.version if stored else 0
        if expected_version not in (None, version):
            raise self._version_conflict(record.session_id, expected_version or 0, version)
        await pause()
        return await super()._put_session(record, None, now_us)


class GivesAVersionTwice(Faulty):
    found_by = ("20_concurrent_puts_get_20_versions",)

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        before = self._live(record.session_id, now_us)
        version = before.header.version if before else 0
        await pause()
        header = await super()._put_session(record, expected_version, now_us)
        return attrs.evolve(header, version=version + 1)


class PutsBackTheOldPosition(Faulty):
    found_by = ("concurrent_puts_and_appends_are_all_kept",)

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        before = self._live(record.session_id, now_us)
        last = before.header.last_position if before else 0
        await pause()
        header = await super()._put_session(record, expected_version, now_us)
        stored = self._sessions[record.session_id]
        stored.header = attrs.evolve(header, last_position=last)
        return stored.header


class ListsUnderFormerUsers(Faulty):
    found_by = ("after_concurrent_puts_only_the_last_is_listed",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._users: dict[str, set[str]] = {}

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        if record.user_id is not None:
            self._users.setdefault(record.user_id, set()).add(record.session_id)
        return await super()._put_session(record, expected_version, now_us)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        page = await super()._query_sessions(attrs.evolve(query, user_id=None), now_us)
        known = self._users.get(query.user_id or "", set())
        found = tuple(header for header in page.sessions if query.user_id is None or header.session_id in known)
        return attrs.evolve(page, sessions=found)


class PagesByNumber(Faulty):
    """A cursor says how many sessions came before it."""

    found_by = ("a_long_listing_is_complete_while_others_change",)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        skipped = query.cursor[0] if query.cursor else 0
        everything = attrs.evolve(query, cursor=None, limit=10**9)
        sessions = (await super()._query_sessions(everything, now_us)).sessions
        page = sessions[skipped : skipped + query.limit]
        end = skipped + len(page)
        return Page(sessions=page, next_cursor=(end, "-") if end < len(sessions) else None)


class CursorsForgetTheId(Faulty):
    found_by = ("a_long_listing_is_complete_while_others_change",)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        if query.cursor is not None:
            query = attrs.evolve(query, cursor=(query.cursor[0], "" if query.newest_first else "\U0010ffff"))
        return await super()._query_sessions(query, now_us)


class SaysThatEveryoneDeletedIt(Faulty):
    found_by = ("one_of_10_concurrent_deletes_is_true",)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        found = self._live(session_id, now_us) is not None
        await pause()
        await super()._delete_session(session_id, now_us)
        return found


class AppendsToADeletedSession(Faulty):
    """What is appended while the session is deleted waits for the next one of its name."""

    found_by = ("a_delete_among_writes_leaves_nothing_behind",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._orphans: dict[str, list[MessageRecord]] = {}

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        self._existing(session_id, now_us)
        await pause()
        if self._live(session_id, now_us) is None:
            self._orphans.setdefault(session_id, []).extend(messages)
            return AppendReceipt(first_position=1, last_position=len(messages))
        return await super()._append_messages(session_id, messages, expected_last, now_us)

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        header = await super()._put_session(record, expected_version, now_us)
        if orphans := self._orphans.pop(record.session_id, None):
            await super()._append_messages(record.session_id, orphans, None, now_us)
        return header


class LeavesMemoriesOfADeletedSession(Faulty):
    found_by = ("a_delete_among_writes_leaves_nothing_behind",)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        scope = MemoryScope("session", session_id)
        memories = self._memories.get(scope, {})
        deleted = await super()._delete_session(session_id, now_us)
        self._memories[scope] = memories
        return deleted


class CountsWhatItMeantToTruncate(Faulty):
    found_by = ("concurrent_truncations_count_each_message_once",)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        count = max(0, len(self._existing(session_id, now_us).messages) - after)
        await pause()
        await super()._truncate_messages(session_id, after, now_us)
        return count


class ForgetsIdsBeforeItTruncates(Faulty):
    """Ids of messages that come in between are known, and the messages are gone."""

    found_by = ("truncations_among_appends_leave_no_gap",)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        stored = self._existing(session_id, now_us)
        for message in stored.messages[after:]:
            del stored.positions[message.message_id]
        await pause()
        removed = len(stored.messages[after:])
        del stored.messages[after:]
        self._touch(stored, now_us)
        return removed


class LetsOneMemoryGoAPut(Faulty):
    found_by = ("a_scope_keeps_its_limit_under_concurrent_puts",)

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        count = len(self._entries(record.scope, now_us))
        await pause()
        kept = await super()._put_memory(record, None, now_us)
        if max_entries is not None and count >= max_entries:
            entries = self._memories[record.scope]
            del entries[min(key for key in entries if key != record.key)]
        return kept


class LosesMemoriesPutAtOnce(Faulty):
    """Reads the whole scope and writes it back."""

    found_by = (
        "50_concurrent_memories_are_all_kept",
        "concurrent_memories_and_messages_are_all_kept",
    )

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        before = dict(self._entries(record.scope, now_us))
        await pause()
        self._memories[record.scope] = before
        return await super()._put_memory(record, max_entries, now_us)


class AnswersWithTheMemoryOfAnother(Faulty):
    """Says of a memory that another one replaced at once that it is stored, with a time it never had."""

    found_by = ("20_concurrent_puts_of_one_memory_store_one",)

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        kept = await super()._put_memory(record, max_entries, now_us)
        return attrs.evolve(kept, updated_at_us=now_us - 1)


class SaveForgetsWhoseItIs(Faulty):
    """Puts a document over the header that it read, whatever was put since."""

    found_by = ("concurrent_saves_succeed_and_keep_user_and_tags",)

    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        await self.put_session(SessionRecord(session_id=session_id, payload=json_payload(data)))
        return True


class SaysThatEveryoneForgotIt(Faulty):
    found_by = ("one_of_10_deletes_of_a_memory_is_true",)

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        found = key in self._entries(scope, now_us)
        await pause()
        await super()._delete_memory(scope, key, now_us)
        return found


FAULTY_RACES: tuple[type[Faulty], ...] = (
    LooksForTheSessionFirst,
    GivesAVersionTwice,
    PutsBackTheOldPosition,
    ListsUnderFormerUsers,
    PagesByNumber,
    CursorsForgetTheId,
    SaysThatEveryoneDeletedIt,
    AppendsToADeletedSession,
    LeavesMemoriesOfADeletedSession,
    CountsWhatItMeantToTruncate,
    ForgetsIdsBeforeItTruncates,
    LetsOneMemoryGoAPut,
    LosesMemoriesPutAtOnce,
    AnswersWithTheMemoryOfAnother,
    SaveForgetsWhoseItIs,
    SaysThatEveryoneForgotIt,
)

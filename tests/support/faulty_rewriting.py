"""Memory storages that go wrong when they replace payloads; see ``Faulty``."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from tests.support.faulty_appends import Faulty, pause

__all__ = ["FAULTY_REWRITING"]


class RewritingIsAWrite(Faulty):
    """Stamps the session, as an append does."""

    found_by = (
        "rewriting_a_message_changes_its_payload_only",
        "rewriting_does_not_extend_the_lifetime",
    )

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        replaced = await super()._rewrite_messages(session_id, changes, now_us)
        if stored := self._live(session_id, now_us):
            self._touch(stored, now_us)
        return replaced


class RewritingIsAPut(Faulty):
    """Gives the session a new version, the memory a new time and no expiry."""

    found_by = (
        "rewriting_a_session_changes_its_payload_only",
        "rewriting_a_memory_changes_its_payload_only",
    )

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        header = await self._find_session(session_id, now_us)
        if header is None or header.payload != old:
            return False
        await self._put_session(attrs.evolve(header, payload=new), None, now_us)
        return True

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        memory = await self._find_memory(scope, key, now_us)
        if memory is None or memory.payload != old:
            return False
        await self._put_memory(attrs.evolve(memory, payload=new, expires_at_us=None), None, now_us)
        return True


class DoesNotCompare(Faulty):
    """Replaces whatever is there."""

    found_by = (
        "a_payload_other_than_the_old_one_is_kept",
        "truncated_messages_are_not_rewritten",
        "1000_changes_of_a_long_history_are_independent",
        "rewriting_back_restores_the_messages",
        "one_of_several_rewriters_replaces_each_message",
    )

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        stored = self._live(session_id, now_us)
        there = {message.position: message for message in stored.messages} if stored else {}
        fitting = [
            attrs.evolve(change, message_id=there[change.position].message_id, old=there[change.position].payload)
            for change in changes
            if change.position in there
        ]
        return await super()._rewrite_messages(session_id, fitting, now_us)


class LooksAtThePositionOnly(Faulty):
    found_by = (
        "a_change_for_another_message_is_skipped",
        "truncated_messages_are_not_rewritten",
    )

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        stored = self._live(session_id, now_us)
        ids = {message.position: message.message_id for message in stored.messages} if stored else {}
        fitting = [attrs.evolve(change, message_id=ids.get(change.position, change.message_id)) for change in changes]
        return await super()._rewrite_messages(session_id, fitting, now_us)


class RewritesWhatHasExpired(Faulty):
    found_by = ("absent_and_expired_records_are_not_rewritten",)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        stored = self._sessions.get(session_id)
        return stored is not None and stored.header.payload == old


class WritesTheLogBack(Faulty):
    """Reads all messages, changes them, and puts them back a moment later."""

    found_by = ("rewriting_during_50_appends_loses_nothing",)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        replaced = await super()._rewrite_messages(session_id, changes, now_us)
        stored = self._existing(session_id, now_us)
        messages = list(stored.messages)
        await pause()
        stored.messages = messages
        return replaced


class ComparesFirst(Faulty):
    """Compares, and replaces a moment later what may have changed since."""

    found_by = (
        "one_of_several_rewriters_replaces_each_record",
        "a_concurrent_put_is_not_overwritten",
    )

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        stored = self._live(session_id, now_us)
        if stored is None or stored.header.payload != old:
            return False
        header = stored.header
        await pause()
        stored.header = attrs.evolve(header, payload=new)
        return True

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        memory = await self._find_memory(scope, key, now_us)
        if memory is None or memory.payload != old:
            return False
        await pause()
        self._memories[scope][key] = attrs.evolve(memory, payload=new)
        return True


class WritesThePayloadInTwoSteps(Faulty):
    """The tag, and a moment later the bytes."""

    found_by = ("readers_see_whole_payloads_during_rewriting",)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        half = [attrs.evolve(change, new=Payload(change.new.encoding, change.old.data)) for change in changes]
        replaced = await super()._rewrite_messages(session_id, half, now_us)
        await pause()
        rest = [attrs.evolve(change, old=first.new) for change, first in zip(changes, half, strict=True)]
        await super()._rewrite_messages(session_id, rest, now_us)
        return replaced


FAULTY_REWRITING: tuple[type[Faulty], ...] = (
    RewritingIsAWrite,
    RewritingIsAPut,
    DoesNotCompare,
    LooksAtThePositionOnly,
    RewritesWhatHasExpired,
    WritesTheLogBack,
    ComparesFirst,
    WritesThePayloadInTwoSteps,
)

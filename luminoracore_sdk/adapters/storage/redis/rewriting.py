"""Rewriting on Redis: each call of a script compares and sets."""

from collections.abc import Iterator, Sequence
from typing import Any

from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.redis.keys import stamp
from luminoracore_sdk.adapters.storage.redis.memories import RedisMemories
from luminoracore_sdk.adapters.storage.redis.records import label
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["RedisRewriting"]

_AT_ONCE = 200  # changes in one call of the script: in a long list, each message has to be looked for
_PART_BYTES = 2**20  # of changes in one call, unless one alone has more


class RedisRewriting(RedisMemories, BaseStorage):
    """The calls that replace payloads.

    No key gets another time to live by them, and no index changes. A large batch is several calls of the
    script, so that others have their turn in between.
    """

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        arguments = (b"%d" % now_us, label(old), old.data, label(new), new.data)
        reply = await self._run("rewrite_session", (self._keys.session(session_id).session,), *arguments)
        return self._replaced(session_id, reply) > 0

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        session, messages, *_ = self._keys.session(session_id)
        replaced = 0
        for words in _parts([_words(change) for change in changes]):
            try:
                reply = await self._run("rewrite_messages", (session, messages), b"%d" % now_us, *words)
            except StorageUnavailableError as exc:
                if replaced and not exc.in_doubt:
                    raise type(exc)(exc.backend, exc.reason, in_doubt=True) from exc
                raise
            replaced += self._replaced(session_id, reply)
        return replaced

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        arguments = (key.encode(), b"%d" % now_us, stamp(now_us), _rest(old), _rest(new))
        reply = await self._run("rewrite_memory", self._keys.memories(scope), *arguments)
        return self._replaced(scope.owner_id, reply) > 0

    def _replaced(self, session_id: str, reply: Sequence[Any]) -> int:
        """Return how many a script has replaced; none of a session that is not there."""
        return 0 if reply[0] == b"absent" else int(self._done(session_id, reply)[1])


def _parts(changes: Sequence[Sequence[bytes]]) -> Iterator[list[bytes]]:
    """Yield the words of so many changes as one call of the script takes."""
    part: list[bytes] = []
    count = size = 0
    for words in changes:
        length = sum(map(len, words))
        if part and (count == _AT_ONCE or size + length > _PART_BYTES):
            yield part
            part, count, size = [], 0, 0
        part += words
        count, size = count + 1, size + length
    yield part


def _words(change: PayloadRewrite) -> tuple[bytes, ...]:
    return b"%d" % change.position, change.message_id.encode(), _rest(change.old), _rest(change.new)


def _rest(payload: Payload) -> bytes:
    """Return tag and payload as they stand last in a record."""
    return label(payload) + b"\0" + payload.data

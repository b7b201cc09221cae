"""Changes of what is stored: annotate, redact, delete, rewind, and choose between alternative answers.

An answer that was replaced stays as an *alternative*: the messages that stood behind the question, as one list. The
alternatives lie in the metadata of the first message that stands there now, so that they come and go with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.application.deleted_messages import REMOVED_TEXT, find_tombstone, tombstone
from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.records import MAX_BATCH, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import message_records
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    MessageNotFoundError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import (
    DELETED,
    OLDER_DELETED,
    REDACTED,
    Message,
    MessageRole,
    at_position,
    is_deleted,
    not_deleted,
)
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.values import check_id

__all__ = [
    "ALTERNATIVES",
    "ANNOTATIONS",
    "Revisions",
    "branches_of",
    "branches_with",
    "checked_ids",
    "with_branches",
]

T = TypeVar("T")

ALTERNATIVES = "alternatives"
ANNOTATIONS = "annotations"
"""Names in the metadata of messages; none of them is sent to a provider."""

_KEPT_WHEN_REDACTED = ("tool_call_id", "name")

_AT_ONCE = 8
"""So many messages are found or deleted at the same time."""


@attrs.frozen(kw_only=True)
class Revisions:
    """Changes stored messages. Every change is one atomic step of the storage.

    Attributes:
        storage: The storage that holds them.
        services: The other ports.
    """

    storage: SessionStorage
    services: Services

    async def find(self, session_id: str, message_id: str) -> Message | None:
        """Return the message of an id, or None; a deleted one counts as absent."""
        record = await self.storage.find_message(session_id, message_id)
        if record is None:
            return None
        message = self._message(session_id, record)
        return None if is_deleted(message) else message

    def _message(self, session_id: str, record: MessageRecord) -> Message:
        return self.services.codec.message(record, backend=self.storage.backend, session_id=session_id)

    async def existing(self, session_id: str, message_id: str) -> Message:
        """Return the message of an id.

        Raises:
            MessageNotFoundError: No such message.
        """
        message = await self.find(session_id, message_id)
        if message is None:
            raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend)
        return message

    async def read(self, session_id: str, after: int, before: int | None = None) -> list[Message]:
        """Return the messages between two positions, deleted ones included, oldest first."""
        records = await self.storage.read_messages(session_id, MessageRange(after=after, before=before))
        return await self._decoded(session_id, records)

    async def end(self, session_id: str) -> tuple[int, str | None]:
        """Return position and id of the newest message, be it deleted; 0 and None: there is none.

        Raises:
            SessionNotFoundError: No such session.
        """
        newest = await self.storage.read_messages(session_id, MessageRange(limit=1, newest=True))
        return (newest[0].position, newest[0].message_id) if newest else (0, None)

    async def unchanged(self, session_id: str, change: Callable[[int], Awaitable[T]]) -> T:
        """Await a change that depends on stored messages, again whenever it failed and these were changed meanwhile.

        Args:
            session_id: A session.
            change: Reads, then changes; it is given the number of the latest change, which it passes on as
                ``expected_change``.

        Raises:
            ConflictError: The change was refused, and not because of another one.
            MessageNotFoundError: It has raised this, and there was no other one.
        """
        while True:
            number = await self._last_change(session_id)
            try:
                return await change(number)
            except (ConflictError, MessageNotFoundError):
                if number == await self._last_change(session_id):
                    raise

    async def _last_change(self, session_id: str) -> int:
        header = await self.storage.find_session(session_id)
        return 0 if header is None else header.last_change

    async def replace(  # the facts of one call
        self,
        session_id: str,
        *,
        after: int,
        tail: Sequence[Message],
        messages: Sequence[Message],
        expected_change: int,
        fence: int | None = None,
        counted: bool = True,
    ) -> list[Message]:
        """Replace the messages above a position, which were read; return the new ones, as they are stored.

        Raises:
            ConflictError: There is another change than the expected one, or a message behind the tail.
        """
        records = await message_records(self.storage, self.services.codec, messages, counted=counted)
        await self.storage.replace_tail(
            session_id,
            after=after,
            messages=records,
            expected_last=after + len(tail),
            expected_change=expected_change,
            fence=fence,
        )
        return [at_position(message, place) for place, message in enumerate(messages, start=after + 1)]

    # -- one message -------------------------------------------------------------------------------

    async def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations to a message; None removes one.

        Raises:
            MessageNotFoundError: No such message.
            InvalidJSONError: A value is not JSON.
            ValidationError: ``annotations`` is not a JSON object.
        """
        if not isinstance(annotations, dict):
            raise ValidationError(f"annotations must be a dict, not {type(annotations).__name__}")

        def annotated(message: Message) -> Message:
            before = message.metadata.get(ANNOTATIONS)
            after = {**(before if isinstance(before, dict) else {}), **annotations}
            kept = {name: value for name, value in after.items() if value is not None}
            rest = {name: value for name, value in message.metadata.items() if name != ANNOTATIONS}
            return attrs.evolve(message, metadata={**rest, **({ANNOTATIONS: kept} if kept else {})})

        return await self._changed(session_id, message_id, annotated)

    async def redact(self, session_id: str, message_id: str) -> Message:
        """Remove the content of a message for good, with its metadata and alternatives; id and position stay.

        A message that is not in the conversation is looked for in all alternatives, by a read of the whole history.

        Raises:
            MessageNotFoundError: No such message.
        """

        async def redacted(_number: int) -> Message:
            with suppress(MessageNotFoundError):
                return await self._changed(session_id, message_id, _redacted)
            return await self._redact_alternative(session_id, message_id)

        return await self.unchanged(session_id, redacted)

    async def _redact_alternative(self, session_id: str, message_id: str) -> Message:
        """Redact a message in the alternatives of another one, and return it."""
        found: list[JSONObject] = []

        def redacted(message: Message) -> Message:
            changed = self._redacted_in(session_id, message, {message_id})
            every = (one for branch in branches_of(changed) for one in _all_items(branch))
            found[:] = [one for one in every if one.get("id") == message_id]
            return changed

        if holder := await self._holder(session_id, message_id):
            await self._changed(session_id, holder, redacted)
        if not found:
            raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend)
        return Message.from_dict(found[0])

    def _redacted_in(self, session_id: str, message: Message, ids: Collection[str]) -> Message:
        """Return a message in which these are redacted: itself, and those in its alternatives and in theirs."""
        if message.id in ids:
            return _redacted(message)
        branches = branches_of(message)
        for number, branch in enumerate(branches):
            if _has(branch, ids):
                messages = self._parsed(session_id, branch)
                branches[number] = [self._redacted_in(session_id, one, ids).to_dict() for one in messages]
        return attrs.evolve(message, metadata={**message.metadata, ALTERNATIVES: branches}) if branches else message

    async def _holder(self, session_id: str, message_id: str) -> str | None:
        """Return the id of the message that has a message among its alternatives, or None."""
        before: int | None = None
        with suppress(SessionNotFoundError):
            while True:
                page = MessageRange(before=before, limit=MAX_BATCH, newest=True)
                if not (records := await self.storage.read_messages(session_id, page)):
                    break
                for message in await self._decoded(session_id, records):
                    if any(_has(branch, {message_id}) for branch in branches_of(message)):
                        return message.id
                before = records[0].position
        return None

    async def _changed(self, session_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        """Change a message, again after each conflict."""
        while True:
            record = await self.storage.find_message(session_id, message_id)
            message = None if record is None else self._message(session_id, record)
            if record is None or message is None or is_deleted(message):
                raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend)
            changed = change(message)
            (new,) = await message_records(self.storage, self.services.codec, [changed], counted=False)
            try:
                await self._update(session_id, record, new)
            except ConflictError:
                continue
            except SessionNotFoundError as exc:
                raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend) from exc
            return changed

    async def _update(self, session_id: str, record: MessageRecord, new: MessageRecord) -> None:
        """Replace a message by another one, if it is still the one that was read."""
        await self.storage.update_message(
            session_id,
            record.position,
            payload=new.payload,
            expected=record.payload,
            brief=REMOVED_TEXT if new.brief is None and record.role == "user" else new.brief,
            index=new.index,
        )

    # -- delete ------------------------------------------------------------------------------------

    async def delete(
        self, session_id: str, message_ids: Sequence[str], *, note: Callable[[], Awaitable[object]]
    ) -> int:
        """Delete messages; return the number of those that were not deleted before.

        Args:
            session_id: An existing session.
            message_ids: Distinct ids.
            note: Is awaited before messages are deleted from the middle of the conversation.

        Raises:
            MessageNotFoundError: There is no message of one of the ids; nothing was changed.
        """
        found = await _all_of(self.storage.find_message(session_id, message_id) for message_id in message_ids)
        records = []
        for message_id, record in zip(message_ids, found, strict=True):
            if record is None:
                raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend)
            records.append(record)
        left = [record for record in records if not self.find_tombstone(session_id, record)]
        if not left:
            return 0
        if await self._cut(session_id, records):
            return len(left)
        await note()
        return await self.bury(session_id, left)

    async def bury(self, session_id: str, records: Iterable[MessageRecord]) -> int:
        """Make messages tombstones; return the number of those that were none and are still there."""
        return sum(await _all_of(self._bury(session_id, record) for record in records))

    async def _bury(self, session_id: str, record: MessageRecord) -> bool:
        known: MessageRecord | None = record
        while known is not None and not self.find_tombstone(session_id, known):
            left = tombstone(self.services.codec, known)
            try:
                await self._update(session_id, known, left)
            except ConflictError:  # it was annotated, say, or has another position
                known = await self.storage.find_message(session_id, record.message_id)
            except SessionNotFoundError:
                return False
            else:
                return True
        return False

    async def note_older_deleted(self, session_id: str, record: MessageRecord) -> None:
        """Note in a tombstone that every older message is deleted, so that reads of older ones end there."""
        before, new = (tombstone(self.services.codec, record, metadata) for metadata in (DELETED, OLDER_DELETED))
        with suppress(ConflictError, SessionNotFoundError):  # removed meanwhile
            await self._update(session_id, attrs.evolve(record, payload=before.payload), new)

    def find_tombstone(self, session_id: str, record: MessageRecord) -> Message | None:
        """Return what is left of a message, or None if it was not deleted."""
        return find_tombstone(self.services.codec, record, backend=self.storage.backend, session_id=session_id)

    async def _cut(self, session_id: str, records: Sequence[MessageRecord]) -> bool:
        """Remove messages without a trace, if the conversation ends with them and with them alone."""
        wanted = [record.message_id for record in sorted(records, key=lambda record: record.position)]
        after = min(record.position for record in records) - 1

        async def cut(number: int) -> bool:
            tail = await self.storage.read_messages(session_id, MessageRange(after=after))
            if [record.message_id for record in tail] != wanted:
                return False
            last = tail[-1].position
            await self.storage.replace_tail(session_id, after=after, expected_last=last, expected_change=number)
            return True

        if max(record.position for record in records) - after != len(records):
            return False
        try:
            return await self.unchanged(session_id, cut)
        except ConflictError:  # another writer has appended
            return False

    # -- the tail ----------------------------------------------------------------------------------

    async def rewind(self, session_id: str, to: str | int) -> list[Message]:
        """Remove every message behind one; return what was removed, oldest first.

        Args:
            session_id: An existing session.
            to: The id or the position of the last message that stays; 0: none does.

        Raises:
            MessageNotFoundError: No such message.
            SessionNotFoundError: No such session.
        """
        after = to if type(to) is int else (await self.existing(session_id, check_id(to, "message id"))).position or 0
        while True:
            last, _ = await self.end(session_id)
            if last < after:
                raise MessageNotFoundError(session_id, after, backend=self.storage.backend)
            try:  # with the end that was seen, so that a repeated call is not taken for one that removes nothing
                receipt = await self.storage.replace_tail(session_id, after=after, expected_last=last)
            except ConflictError:
                continue
            return not_deleted(await self._decoded(session_id, receipt.removed))

    async def _decoded(self, session_id: str, records: Sequence[MessageRecord]) -> list[Message]:
        decode, backend = self.services.codec.message, self.storage.backend
        return await off_loop(
            lambda: [decode(record, backend=backend, session_id=session_id) for record in records],
            large=sum(len(record.payload.data) for record in records) > LARGE,
        )

    async def alternatives(self, session_id: str, message_id: str) -> list[list[Message]]:
        """Return the answers that a message has replaced, the newest last; each is a list of messages.

        Raises:
            MessageNotFoundError: No such message.
        """
        message = await self.existing(session_id, message_id)
        return [self._parsed(session_id, branch) for branch in branches_of(message)]

    async def choose(self, session_id: str, message_id: str, number: int) -> list[Message]:
        """Put an alternative in the place of a message and of all behind it, which become an alternative.

        Args:
            session_id: An existing session.
            message_id: The first message of the present answer.
            number: Which of ``alternatives``, from 0.

        Returns:
            The messages that stand there now.

        Raises:
            MessageNotFoundError: No such message.
            ValidationError: There is no such alternative.
            ConflictError: Another writer has changed the conversation meanwhile; nothing was changed.
        """

        async def chosen(change: int) -> list[Message]:
            first = await self.existing(session_id, message_id)
            after = (first.position or 1) - 1
            tail = await self.read(session_id, after)
            branches = branches_of(first)
            if type(number) is not int or not 0 <= number < len(branches):
                raise ValidationError(
                    f"message {message_id!a:.80} has {len(branches)} alternatives, none is {number!r}"
                )
            messages = self._parsed(session_id, branches.pop(number))
            return await self.replace(
                session_id,
                after=after,
                tail=tail,
                messages=with_branches(messages, branches_with(branches, tail)),
                expected_change=change,
                counted=False,
            )

        return await self.unchanged(session_id, chosen)

    def _parsed(self, session_id: str, branch: Any) -> list[Message]:
        key = f"an alternative in session {session_id!a}"
        try:
            messages = [Message.from_dict(data) for data in branch]
        except (TypeError, ValidationError) as exc:
            raise CorruptRecordError(backend=self.storage.backend, key=key, reason="it is not messages") from exc
        if not messages or any(message.id is None or message.timestamp is None for message in messages):
            raise CorruptRecordError(backend=self.storage.backend, key=key, reason="a message has no id or no time")
        return messages


def branches_of(message: Message) -> list[Any]:
    """Return the alternatives in the metadata of a message, as JSON."""
    found = message.metadata.get(ALTERNATIVES)
    return list(found) if isinstance(found, list) else []


def _has(branch: Any, ids: Collection[str]) -> bool:
    """Whether one of these messages is in an alternative, or in the alternatives of its messages."""
    return any(str(data.get("id")) in ids for data in _all_items(branch))


def _items(branch: Any) -> list[JSONObject]:
    """Return the messages of an alternative, which may be damaged, as JSON objects."""
    return [data for data in branch if isinstance(data, dict)] if isinstance(branch, list) else []


def _all_items(branch: Any) -> Iterator[JSONObject]:
    """Yield the messages of an alternative, and those of the alternatives that they have, as JSON objects."""
    for data in _items(branch):
        yield data
        metadata = data.get("metadata")
        nested = metadata.get(ALTERNATIVES) if isinstance(metadata, dict) else None
        for inner in nested if isinstance(nested, list) else ():
            yield from _all_items(inner)


def _redacted(message: Message) -> Message:
    kept = {name: message.metadata[name] for name in _KEPT_WHEN_REDACTED if name in message.metadata}
    kept = kept if message.role is MessageRole.TOOL else {}
    return attrs.evolve(message, content="", metadata={**kept, REDACTED: True})


def branches_with(branches: Sequence[Any], tail: Sequence[Message]) -> list[Any]:
    """Return alternatives as JSON, and behind them a tail, without its own alternatives and deleted messages."""
    said = not_deleted(tail)
    if not said:
        return list(branches)
    first = attrs.evolve(
        said[0], metadata={name: value for name, value in said[0].metadata.items() if name != ALTERNATIVES}
    )
    plain = [attrs.evolve(message, position=None).to_dict() for message in (first, *said[1:])]
    return [*branches, plain]


def with_branches(messages: Sequence[Message], branches: Sequence[Any]) -> list[Message]:
    """Return messages of which the first one has the alternatives."""
    first, *others = messages
    if not branches:
        return [first, *others]
    return [attrs.evolve(first, metadata={**first.metadata, ALTERNATIVES: list(branches)}), *others]


def checked_ids(message_ids: Iterable[str]) -> list[str]:
    """Return ids of messages, each once.

    Raises:
        ValidationError: They are one string, or no ids.
    """
    if isinstance(message_ids, str) or not isinstance(message_ids, Iterable):
        raise ValidationError(f"message_ids is a list of ids, not {type(message_ids).__name__}")
    return list(dict.fromkeys(check_id(message_id, "message id") for message_id in message_ids))


async def _all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await calls, some of them at a time; return the results in order, or raise the first error."""
    results: list[T] = []
    waiting = iter(calls)
    while batch := list(islice(waiting, _AT_ONCE)):
        outcomes = await asyncio.gather(*batch, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
    return results

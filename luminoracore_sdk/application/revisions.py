"""Changes of what is stored: annotate, redact, rewind, and choose between alternative answers.

An answer that was replaced stays as an *alternative*: the messages that stood behind the question, as one list. The
alternatives lie in the metadata of the first message that stands there now, so that they come and go with it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs

from luminoracore_sdk.application.off_loop import is_large_message, off_loop
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, TailReceipt
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    MessageNotFoundError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, MessageRole, at_position
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.values import check_id

__all__ = ["ALTERNATIVES", "ANNOTATIONS", "REDACTED", "Revisions", "branches_of", "branches_with", "with_branches"]

ALTERNATIVES = "alternatives"
ANNOTATIONS = "annotations"
REDACTED = "redacted"
"""Names in the metadata of messages; none of them is sent to a provider."""

_KEPT_WHEN_REDACTED = ("tool_call_id", "name")


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
        """Return the message of an id, or None."""
        record = await self.storage.find_message(session_id, message_id)
        if record is None:
            return None
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
        """Return the messages between two positions, oldest first."""
        records = await self.storage.read_messages(session_id, MessageRange(after=after, before=before))
        return await self._decoded(session_id, records)

    async def replace(  # the facts of one call
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[Message],
        expected_last: int | None,
        fence: int | None,
        counted: bool,
    ) -> tuple[list[Message], TailReceipt]:
        """Replace the messages above a position; return the new ones, as they are stored."""
        encode = partial(self.services.codec.message_record, counted=counted)
        large = any(map(is_large_message, messages))
        records = await off_loop(lambda: [encode(message) for message in messages], large=large)
        receipt = await self.storage.replace_tail(
            session_id, after=after, messages=records, expected_last=expected_last, fence=fence
        )
        return [at_position(message, place) for place, message in enumerate(messages, start=after + 1)], receipt

    async def replace_kept(
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[Message],
        branches: Sequence[Any],
        tail: Sequence[Message],
        fence: int | None = None,
        counted: bool = True,
    ) -> list[Message]:
        """Replace a tail, which becomes an alternative of the first new message.

        A message of the tail may be annotated or redacted, or the whole tail be replaced by one of the same length,
        after it was read. Then the alternatives are corrected.

        Args:
            session_id: An existing session.
            after: The position of the last message that stays.
            messages: The new messages.
            branches: Their other alternatives.
            tail: What stands behind ``after``, as it was read.
            fence: The fence of the lease under which this is done; None: there is no lease.
            counted: Whether the tokens of the new messages are added to those of the session.

        Raises:
            ConflictError: The conversation does not end with the tail; nothing was changed.
        """
        stored, receipt = await self.replace(
            session_id,
            after=after,
            messages=with_branches(messages, branches_with(branches, tail)),
            expected_last=after + len(tail),
            fence=fence,
            counted=counted,
        )
        removed = await self._decoded(session_id, receipt.removed)
        if receipt.replayed or removed == list(tail):
            return stored
        known = branches_of(removed[0])  # a redaction has removed them
        if removed[0].id == tail[0].id:
            known = list(branches) if known else []
        (chosen,) = branches_with([], stored)
        correct = branches_with([branch for branch in known if branch != chosen], removed)

        def corrected(message: Message) -> Message:
            return attrs.evolve(message, metadata={**message.metadata, ALTERNATIVES: correct})

        with suppress(MessageNotFoundError):  # another writer has replaced it in turn
            await self._changed(session_id, stored[0].id or "", corrected)
        return [corrected(stored[0]), *stored[1:]]

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

        Raises:
            MessageNotFoundError: No such message.
        """

        def redacted(message: Message) -> Message:
            kept = {name: message.metadata[name] for name in _KEPT_WHEN_REDACTED if name in message.metadata}
            kept = kept if message.role is MessageRole.TOOL else {}
            return attrs.evolve(message, content="", metadata={**kept, REDACTED: True})

        return await self._changed(session_id, message_id, redacted)

    async def _changed(self, session_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        """Change a message, again after each conflict."""
        while True:
            record = await self.storage.find_message(session_id, message_id)
            if record is None:
                raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend)
            message = self.services.codec.message(record, backend=self.storage.backend, session_id=session_id)
            changed = change(message)
            new = self.services.codec.message_record(changed, counted=False)
            try:
                await self.storage.update_message(
                    session_id, record.position, payload=new.payload, expected=record.payload, brief=new.brief
                )
            except ConflictError:
                continue
            except SessionNotFoundError as exc:
                raise MessageNotFoundError(session_id, message_id, backend=self.storage.backend) from exc
            return changed

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
            newest = await self.storage.read_messages(session_id, MessageRange(limit=1, newest=True))
            last = newest[0].position if newest else 0
            if last < after:
                raise MessageNotFoundError(session_id, after, backend=self.storage.backend)
            try:  # with the end that was seen, so that a repeated call is not taken for one that removes nothing
                receipt = await self.storage.replace_tail(session_id, after=after, expected_last=last)
            except ConflictError:
                continue
            return await self._decoded(session_id, receipt.removed)

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
        first = await self.existing(session_id, message_id)
        branches = branches_of(first)
        if type(number) is not int or not 0 <= number < len(branches):
            raise ValidationError(f"message {message_id!a:.80} has {len(branches)} alternatives, none is {number!r}")
        after = (first.position or 1) - 1
        tail = await self.read(session_id, after)
        chosen = self._parsed(session_id, branches.pop(number))
        return await self.replace_kept(
            session_id, after=after, messages=chosen, branches=branches, tail=tail, counted=False
        )

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


def branches_with(branches: Sequence[Any], tail: Sequence[Message]) -> list[Any]:
    """Return alternatives as JSON, and behind them a tail, without its own alternatives."""
    if not tail:
        return list(branches)
    first = attrs.evolve(
        tail[0], metadata={name: value for name, value in tail[0].metadata.items() if name != ALTERNATIVES}
    )
    plain = [attrs.evolve(message, position=None).to_dict() for message in (first, *tail[1:])]
    return [*branches, plain]


def with_branches(messages: Sequence[Message], branches: Sequence[Any]) -> list[Message]:
    """Return messages of which the first one has the alternatives."""
    first, *others = messages
    if not branches:
        return [first, *others]
    return [attrs.evolve(first, metadata={**first.metadata, ALTERNATIVES: list(branches)}), *others]

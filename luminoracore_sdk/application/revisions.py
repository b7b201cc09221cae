"""Changes of what is stored: annotate, redact, rewind, and choose between alternative answers.

An answer that was replaced stays as an *alternative*: the messages that stood behind the question, as one list. The
alternatives lie in the metadata of the first message that stands there now, so that they come and go with it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from luminoracore_sdk.application.ports.records import MessageRange, TailReceipt
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
        decode, backend = self.services.codec.message, self.storage.backend
        return [decode(record, backend=backend, session_id=session_id) for record in records]

    async def replace(
        self, session_id: str, *, after: int, messages: Sequence[Message], expected_last: int | None
    ) -> tuple[list[Message], TailReceipt]:
        """Replace the messages above a position; return the new ones, as they are stored."""
        records = [self.services.codec.message_record(message) for message in messages]
        receipt = await self.storage.replace_tail(
            session_id, after=after, messages=records, expected_last=expected_last
        )
        return [at_position(message, place) for place, message in enumerate(messages, start=after + 1)], receipt

    # -- one message -------------------------------------------------------------------------------

    async def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations to a message; None removes one.

        Raises:
            MessageNotFoundError: No such message.
            InvalidJSONError: A value is not JSON.
        """

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
            payload = self.services.codec.message_record(changed).payload
            try:
                await self.storage.update_message(session_id, record.position, payload=payload, expected=record.payload)
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
        after = to if isinstance(to, int) else (await self.existing(session_id, to)).position or 0
        try:
            receipt = await self.storage.replace_tail(session_id, after=after)
        except ConflictError as exc:
            raise MessageNotFoundError(session_id, after, backend=self.storage.backend) from exc
        decode, backend = self.services.codec.message, self.storage.backend
        return [decode(record, backend=backend, session_id=session_id) for record in receipt.removed]

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
        messages = with_branches(chosen, branches_with(branches, tail))
        stored, _ = await self.replace(session_id, after=after, messages=messages, expected_last=after + len(tail))
        return stored

    def _parsed(self, session_id: str, branch: Any) -> list[Message]:
        try:
            return [Message.from_dict(data) for data in branch]
        except (TypeError, ValidationError) as exc:
            key = f"an alternative in session {session_id!a}"
            raise CorruptRecordError(backend=self.storage.backend, key=key, reason="it is not messages") from exc


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

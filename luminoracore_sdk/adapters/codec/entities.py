"""Conversion of entities to records and back."""

from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from luminoracore_sdk.adapters.codec.converter import settings_from_mapping, settings_to_mapping
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.codec.versions import (
    CURRENT,
    memory_document,
    message_document,
    session_document,
)
from luminoracore_sdk.application.deleted_messages import REMOVED_TEXT
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    NEVER_EVICTED,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import CorruptRecordError, LuminoraCoreSDKError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MemoryEntry, MemorySource, MemoryVersion, retention
from luminoracore_sdk.domain.message import Message, MessageRole, brief_text, is_redacted, message_text, stored_message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import ARCHIVED, PINNED, RESERVED_TAGS, SessionConfig
from luminoracore_sdk.domain.summaries import ConversationSummary, stored_conversation
from luminoracore_sdk.domain.usage import counters_of
from luminoracore_sdk.domain.values import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from luminoracore_sdk.domain.recall.analyzer import Analyzer

__all__ = ["JsonEntityCodec"]

T = TypeVar("T")

_TEXT = (str, NoneType)
_TALKING = (MessageRole.USER, MessageRole.ASSISTANT)


def _flags(config: SessionConfig) -> list[str]:
    return [tag for tag, is_set in ((ARCHIVED, config.archived), (PINNED, config.pinned)) if is_set]


def _adds(message: Message) -> dict[str, int]:
    if message.role is not MessageRole.ASSISTANT or message.timestamp is None:
        return {}
    model = message.metadata.get("model")
    day = message.timestamp.date()
    return counters_of(day, model if isinstance(model, str) else None, message.metadata["usage"])


_BUILD_ERRORS = (KeyError, TypeError, ValueError, OverflowError, LuminoraCoreSDKError)
"""Errors that building an entity raises from a document that does not fit."""


class JsonEntityCodec:
    """Write entities as JSON documents of the current version, and read documents of every version.

    Args:
        values: Encodes documents; None: ``JsonCodec``.
        index: Returns what is stored of a text in order to find it; None: messages are not indexed.
    """

    def __init__(self, values: ValueCodec | None = None, *, index: Callable[[str], Payload] | None = None) -> None:
        self._values = values or JsonCodec()
        self._index = index

    def indexing(self, analyzer: "Analyzer") -> "JsonEntityCodec":
        """Return a codec that indexes messages; see ``EntityCodec.indexing``."""
        from luminoracore_sdk.application.indexing import text_index  # noqa: PLC0415  # only where search is on

        return JsonEntityCodec(self._values, index=partial(text_index, analyzer))

    def settings(self, kind: type[T], data: object) -> T:
        """Return a settings object; see ``EntityCodec.settings``."""
        return data if isinstance(data, kind) else settings_from_mapping(kind, data)

    def session_record(self, session: Session) -> SessionRecord:
        """Return the record of a session; see ``EntityCodec``."""
        config = session.config
        document = {
            "v": CURRENT,
            "personality": session.personality,
            "provider": session.provider,
            "config": settings_to_mapping(config),
            "metadata": session.metadata,
        }
        if session.has_deletions:
            document["deletions"] = True
        return SessionRecord(
            session_id=session.session_id,
            payload=self._values.encode(document, where="session"),
            card=self._card(config),
            user_id=config.user_id,
            tags=(*config.tags, *_flags(config)),
            ttl_us=None if config.ttl is None else round(config.ttl * 1_000_000),
        )

    def session(self, record: SessionRecord, *, backend: str) -> Session:
        """Return the session of a record; see ``EntityCodec``."""
        key = f"session {record.session_id!a}"
        if record.payload is None:
            raise CorruptRecordError(backend=backend, key=key, reason="it has no payload")

        def build(document: JSONObject) -> Session:
            placed = {
                "ttl": None if record.ttl_us is None else record.ttl_us / 1_000_000,
                "user_id": record.user_id,
                "tags": tuple(tag for tag in record.tags if not tag.startswith(RESERVED_TAGS)),
                "archived": ARCHIVED in record.tags,
                "pinned": PINNED in record.tags,
            }
            config = settings_from_mapping(SessionConfig, {**document["config"], **placed})
            return Session(
                session_id=record.session_id,
                personality=document["personality"],
                provider=document["provider"],
                config=config,
                created_at=from_microseconds(record.created_at_us),
                last_activity=from_microseconds(record.updated_at_us),
                message_count=record.last_position,
                version=record.version,
                metadata=document["metadata"],
                has_deletions=document.get("deletions") is True,
            )

        return self._read(record.payload, session_document, build, backend=backend, key=key)

    def _card(self, config: SessionConfig) -> Payload | None:
        card: JSONObject = {"title": config.title, "attributes": dict(config.attributes)}
        return self._values.encode(card, where="session") if any(card.values()) else None

    def summary(self, record: SessionRecord, *, backend: str) -> ConversationSummary:
        """Return the summary of a record; see ``EntityCodec``."""
        key, summary = f"session {record.session_id!a}", record.summary
        card: Any = {} if record.card is None else self._values.decode(record.card, backend=backend, key=key)
        first = None if summary.first is None else self._values.decode(summary.first.payload, backend=backend, key=key)
        last = None if summary.last is None else self._values.decode(summary.last.payload, backend=backend, key=key)
        attributes = card.get("attributes", {}) if isinstance(card, dict) else None
        if type(attributes) is not dict or not isinstance(first, _TEXT) or not isinstance(last, _TEXT):
            raise CorruptRecordError(backend=backend, key=key, reason="its card or a brief is of another form")
        tags = record.tags
        return stored_conversation(
            record.session_id,
            record.user_id,
            card.get("title"),
            attributes,
            tags and tuple([tag for tag in tags if not tag.startswith(RESERVED_TAGS)]),
            ARCHIVED in tags,
            PINNED in tags,
            first,
            last,
            summary.counters,
            record.last_position,
            from_microseconds(record.created_at_us),
            from_microseconds(record.updated_at_us),
        )

    def message_record(self, message: Message, *, counted: bool = True) -> MessageRecord:
        """Return the record of a message; see ``EntityCodec``."""
        if message.id is None or message.timestamp is None:
            raise ValueError("a message needs an id and a timestamp before it is stored")
        document: JSONObject = {"v": CURRENT, "content": message.content}
        if message.metadata:
            document["metadata"] = message.metadata
        return MessageRecord(
            message_id=message.id,
            role=str(message.role),  # faster than ``.value``, a Python call in 3.11
            created_at_us=to_microseconds(message.timestamp),
            payload=self._values.encode(document, where="message"),
            brief=self._brief(message),
            adds=_adds(message) if counted and "usage" in message.metadata else {},
            index=None if self._index is None else self._index(message_text(message)),
        )

    def _brief(self, message: Message) -> Payload | None:
        text = brief_text(message) if message.role in _TALKING else ""
        if text:
            return self._values.encode(text)
        return REMOVED_TEXT if message.role is MessageRole.USER and is_redacted(message) else None

    def message(self, record: MessageRecord, *, backend: str, session_id: str) -> Message:
        """Return the message of a record; see ``EntityCodec``."""
        try:  # as in _read, but without a closure and a key for each message
            current = message_document(self._values.decode(record.payload, backend=backend, key=""))
            return stored_message(
                record.role,
                current["content"],
                from_microseconds(record.created_at_us),
                current.get("metadata", {}),
                record.message_id,
                record.position,
            )
        except _BUILD_ERRORS as exc:
            key = f"message {record.position} of session {session_id!a}"
            self._values.decode(record.payload, backend=backend, key=key)  # raises an error that names the key
            raise CorruptRecordError(backend=backend, key=key, reason=str(exc)) from exc

    def memory_record(self, scope: MemoryScope, entry: MemoryEntry, *, decay_factor: float | None) -> MemoryRecord:
        """Return the record of a memory entry; see ``EntityCodec``."""
        document: JSONObject = {
            "v": CURRENT,
            "value": entry.value,
            "importance": entry.importance,
            "category": entry.category.value,
        }
        if entry.source is not None:
            document["source"] = entry.source.to_dict()
        if entry.past or entry.since is not None:
            document["since"] = to_microseconds(entry.since or entry.updated_at)
        if entry.past:
            document["past"] = [_stored_version(version) for version in entry.past]
        return MemoryRecord(
            scope=scope,
            key=entry.key,
            payload=self._values.encode(document, where="memory"),
            expires_at_us=None if entry.expires_at is None else to_microseconds(entry.expires_at),
            retention=NEVER_EVICTED
            if decay_factor is None
            else retention(entry.importance, entry.updated_at, decay_factor=decay_factor),
        )

    def memory(self, record: MemoryRecord, *, backend: str) -> MemoryEntry:
        """Return the entry of a record; see ``EntityCodec``."""

        def build(document: JSONObject) -> MemoryEntry:
            end = record.expires_at_us
            return MemoryEntry(
                key=record.key,
                value=document["value"],
                created_at=from_microseconds(record.created_at_us),
                updated_at=from_microseconds(record.updated_at_us),
                expires_at=None if end is None else from_microseconds(end),
                importance=document["importance"],
                category=document["category"],
                since=from_microseconds(document["since"]) if "since" in document else None,
                source=_source(document.get("source")),
                past=tuple(map(_version, document.get("past", ()))),
            )

        key = f"memory {record.key!a} of {record.scope.kind} {record.scope.owner_id!a}"
        return self._read(record.payload, memory_document, build, backend=backend, key=key)

    def _read(
        self,
        payload: Payload,
        upcast: Callable[[Any], JSONObject],
        build: Callable[[JSONObject], T],
        *,
        backend: str,
        key: str,
    ) -> T:
        document = self._values.decode(payload, backend=backend, key=key)
        try:
            return build(upcast(document))
        except _BUILD_ERRORS as exc:
            raise CorruptRecordError(backend=backend, key=key, reason=str(exc)) from exc


def _stored_version(version: MemoryVersion) -> JSONObject:
    stored: JSONObject = {"value": version.value, "since": to_microseconds(version.since)}
    if version.until is not None:
        stored["until"] = to_microseconds(version.until)
    if version.source is not None:
        stored["source"] = version.source.to_dict()
    return stored


def _version(stored: JSONObject) -> MemoryVersion:
    until = stored.get("until")
    return MemoryVersion(
        value=stored["value"],
        since=from_microseconds(stored["since"]),
        until=None if until is None else from_microseconds(until),
        source=_source(stored.get("source")),
    )


def _source(stored: JSONObject | None) -> MemorySource | None:
    return None if stored is None else MemorySource(session_id=stored["session_id"], position=stored["position"])

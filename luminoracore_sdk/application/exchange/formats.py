"""Parsers of import formats: this package's export, and what other products write.

A session is validated completely before any of it is written. All ids are given by the input or derived from it, so
that an import can be repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.chatgpt import chatgpt_sessions
from luminoracore_sdk.application.exchange.claude import claude_sessions
from luminoracore_sdk.application.exchange.fields import each_object, field_of, placed, refuse_twice, refuse_unknown
from luminoracore_sdk.application.exchange.foreign import ForeignSession, content_id
from luminoracore_sdk.application.exchange.message_lists import (
    is_agents_item,
    is_langchain_message,
    langchain_session,
    openai_agents_session,
    sharegpt_session,
)
from luminoracore_sdk.application.exchange.older_sdk import read_older_session
from luminoracore_sdk.application.exchange.raw_json import RawJSON, resolved
from luminoracore_sdk.application.memories import imported_entries
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, stamped
from luminoracore_sdk.domain.scopes import check_owner_id
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
from luminoracore_sdk.domain.values import check_id, from_microseconds, parse_time, to_microseconds

__all__ = [
    "FORMAT",
    "USER_FORMAT",
    "VERSION",
    "ImportFormat",
    "ParsedSession",
    "ParsedUser",
    "SessionParser",
    "detected_format",
]


FORMAT = "luminora-session"
USER_FORMAT = "luminora-user"
VERSION = 1
_HEAD_BYTES = 1_000
"""Where the format of a line of an export stands, which is its first field."""

_SESSION_FIELDS = frozenset(
    {
        *("format", "version", "session_id", "user_id", "tags", "ttl_us", "created_at"),
        *("counters", "document", "messages", "memories"),
    }
)
_MEMORY_FIELDS = frozenset(
    {
        *("key", "value", "category", "importance", "retention", "created_at", "expires_at"),
        *("source", "since", "past"),
    }
)
_OPENAI_ROLES = {"developer": "system", "function": "tool"}
_DECAY = MemoryConfig().decay_factor


class ImportFormat(StrEnum):
    """The formats that can be imported."""

    LUMINORA = "luminora"
    OPENAI = "openai"
    CHATGPT = "chatgpt"
    CLAUDE = "claude"
    SHAREGPT = "sharegpt"
    LANGCHAIN = "langchain"
    OPENAI_AGENTS = "openai-agents"
    OLDER_SDK = "older-sdk"


_LISTS = frozenset({ImportFormat.OPENAI, ImportFormat.LANGCHAIN, ImportFormat.OPENAI_AGENTS})
_FIELDS: tuple[tuple[str, type, ImportFormat], ...] = (
    ("mapping", dict, ImportFormat.CHATGPT),
    ("chat_messages", list, ImportFormat.CLAUDE),
    ("conversations", list, ImportFormat.SHAREGPT),
)
"""Fields by which a conversation of another product is known."""


def detected_format(value: Any) -> ImportFormat | None:
    """Return the format of a conversation, parsed or as an outline; None: it is none that is known."""
    if isinstance(value, list):
        return _format_of_messages(value)
    if not isinstance(value, dict):
        return None
    if "format" in value:
        return ImportFormat.LUMINORA if value["format"] == FORMAT else None
    for name, kind, found in _FIELDS:
        if isinstance(value.get(name), kind):
            return found
    if "messages" not in value:
        return None
    items = value["messages"]
    return (_format_of_messages(items) if isinstance(items, list) else None) or ImportFormat.OPENAI


def _format_of_messages(items: list[Any]) -> ImportFormat | None:
    found = None
    for index, item in enumerate(items):
        with placed(f"messages[{index}]"):
            message = resolved(item)
        if index == 0 and is_langchain_message(message):
            return ImportFormat.LANGCHAIN
        if is_agents_item(message):
            return ImportFormat.OPENAI_AGENTS
        if index == 0 and isinstance(message, dict) and "role" in message:
            found = ImportFormat.OPENAI
    return found


@attrs.frozen(kw_only=True)
class ParsedSession:
    """One validated session, ready to be written.

    Attributes:
        record: Its header.
        messages: Its messages, oldest first.
        memories: Its memories.
        is_adopted: Whether the input names no provider, so that the parser's is used.
    """

    record: SessionRecord
    messages: list[MessageRecord]
    memories: list[MemoryRecord]
    is_adopted: bool = False


@attrs.frozen
class ParsedUser:
    """The validated memories of one user, ready to be written."""

    user_id: str
    memories: list[MemoryRecord]


class SessionParser:
    """Parses sessions from JSON values.

    Args:
        services: The other ports.
        values: Encodes session documents.
        provider: The provider of sessions whose input names none, as ``ProviderConfig.public`` returns it.
    """

    def __init__(self, *, services: Services, values: ValueCodec, provider: JSONObject) -> None:
        self._services = services
        self._values = values
        self._provider = provider
        self._conversations: Counter[str] = Counter()

    def read_line(self, data: JSONValue) -> ParsedSession:
        """Return the session of a value, or the first one; see ``read``."""
        return next(self.read(data))

    def read(self, content: Any, format: ImportFormat | None = None) -> Iterator[ParsedSession]:  # noqa: A002
        """Yield the session of a conversation, and then each of its branches.

        The id of a conversation that has none is derived from its content, and from its number among equal ones, so
        that parsing a file again gives the same ids. If the first message of an OpenAI chat is a system message of
        plain text, it becomes the personality's ``system_prompt``. What has no place in a message or session is kept in
        its metadata, under the name of the format; of an OpenAI chat, directly.

        Args:
            content: A JSON value, a ``RawJSON``, or a list of messages of either kind.
            format: None: detect it.

        Raises:
            ValidationError: The value is in no known format, or is invalid.
        """
        data = content.outline() if isinstance(content, RawJSON) else content
        found = format or detected_format(data)
        if found is None:
            if not isinstance(data, dict):
                raise ValidationError(f"a session is a JSON object, not {type(data).__name__}")
            raise ValidationError(
                f"neither a session of this package ('format': '{FORMAT}') nor an OpenAI chat ('messages': [...]) nor "
                "a conversation of ChatGPT ('mapping'), Claude ('chat_messages') or ShareGPT ('conversations')"
            )
        if found is ImportFormat.OLDER_SDK:
            raise ValidationError("the older SDK's file is one object, session id to session")
        if found in _LISTS:
            yield self._from_messages(data, found)
            return
        data = _object(data)
        if found is ImportFormat.LUMINORA:
            yield self._from_export(data)
        elif found is ImportFormat.SHAREGPT:
            yield self._from_foreign(sharegpt_session(data), data)
        else:
            sessions = chatgpt_sessions if found is ImportFormat.CHATGPT else claude_sessions
            yield from map(self._from_foreign, sessions(data))

    def _from_messages(self, data: Any, format: ImportFormat) -> ParsedSession:  # noqa: A002
        chat = {"messages": data} if isinstance(data, list) else _object(data)
        items = field_of(chat, "messages", list)
        if not items:
            raise ValidationError("'messages' is empty")
        metadata = resolved({name: value for name, value in chat.items() if name != "messages"})
        if format is ImportFormat.LANGCHAIN:
            return self._from_foreign(langchain_session(items, {"langchain": metadata} if metadata else {}), chat)
        if format is ImportFormat.OPENAI_AGENTS:
            return self._from_foreign(
                openai_agents_session(items, {"openai_agents": metadata} if metadata else {}), chat
            )
        prompt = _system_prompt(resolved(items[0]))
        rest = each_object(chat, "messages")
        if prompt is not None:
            next(rest)
        foreign = ForeignSession(
            system_prompt=prompt, metadata=metadata, messages=_chat_messages(rest, 0 if prompt is None else 1)
        )
        return self._from_foreign(foreign, chat)

    def read_user(self, content: Any) -> ParsedUser | None:
        """Return the memories of a user of one line of an export; None: the line is of another kind.

        Args:
            content: A JSON value, or a ``RawJSON``.

        Raises:
            ValidationError: The value is invalid.
        """
        if isinstance(content, RawJSON):
            data = content.load() if USER_FORMAT.encode() in bytes(content.data[:_HEAD_BYTES]) else None
        else:
            data = content
        if not isinstance(data, dict) or data.get("format") != USER_FORMAT:
            return None
        _check_version(data)
        refuse_unknown(data, frozenset({"format", "version", "user_id", "memories"}), "a user")
        user_id = check_owner_id(data.get("user_id"))
        return ParsedUser(user_id, self._exported_memories(MemoryScope("user", user_id), data))

    def read_older(self, session_id: str, data: JSONValue) -> ParsedSession:
        """Return a session of the older SDK's single file; times without a zone are read as UTC.

        Both of its layouts are supported: ``conversation.messages`` with ``config.provider_config``, and
        ``messages`` with ``provider_config``. The provider's key, which that file contains, is dropped. An
        object of plain values under ``memory`` or ``memories`` becomes memories; the rest of the entry
        becomes session metadata, under ``older``.

        Raises:
            ValidationError: The entry is invalid.
        """
        now = self._services.clock.now()
        older = read_older_session(data, now)
        session = Session(
            session_id=session_id,
            personality=older.personality,
            provider=older.provider or self._provider,
            config=self._services.codec.settings(SessionConfig, older.settings),
            created_at=older.created_at,
            last_activity=older.created_at,
            metadata={"older": older.rest} if older.rest else {},
        )
        scope = MemoryScope("session", session_id)
        return ParsedSession(
            record=self._header(session),
            messages=self._records(session_id, older.messages, older.created_at),
            memories=[self._memory(scope, key, value, now) for key, value in older.memories.items()],
            is_adopted=older.provider is None,
        )

    def _memory(self, scope: MemoryScope, key: str, value: JSONValue, now: datetime) -> MemoryRecord:
        entry = MemoryEntry(key=key, value=value, created_at=now, updated_at=now)
        record = self._services.codec.memory_record(scope, entry, decay_factor=_DECAY)
        return attrs.evolve(record, created_at_us=to_microseconds(now))

    # -- exports of this package -----------------------------------------------------------------

    def _from_export(self, data: JSONObject) -> ParsedSession:
        _check_version(data)
        refuse_unknown(data, _SESSION_FIELDS, "a session")
        document = resolved(field_of(data, "document", dict))
        counters = resolved(field_of(data, "counters", dict, None))  # older exports have none
        record = SessionRecord(
            session_id=check_id(data.get("session_id")),
            payload=self._values.encode(document, where="document"),
            user_id=field_of(data, "user_id", str, None),
            tags=tuple(check_id(tag, "tag") for tag in resolved(field_of(data, "tags", list, []))),
            ttl_us=field_of(data, "ttl_us", int, None),
            created_at_us=_time_us(data, "created_at"),
            summary=SessionSummary(counters=counters or {}),
        )
        record = self._with_card(record, document)
        messages = [
            self._exported_message(index, item, counted=counters is None)
            for index, item in enumerate(each_object(data, "messages"))
        ]
        memories = self._exported_memories(MemoryScope("session", record.session_id), data)
        refuse_twice([message.message_id for message in messages], "message id")
        return ParsedSession(record=record, messages=messages, memories=memories)

    def _with_card(self, record: SessionRecord, document: JSONObject) -> SessionRecord:
        """Return the record with its card; refuse a damaged document of a SessionManager.

        A document of the caller may be any object.
        """
        if "v" not in document:
            return record
        codec = self._services.codec
        try:
            return attrs.evolve(record, card=codec.session_record(codec.session(record, backend="import")).card)
        except CorruptRecordError as exc:
            raise ValidationError(f"document: {exc.reason}") from exc

    def _exported_message(self, index: int, item: JSONObject, *, counted: bool) -> MessageRecord:
        with placed(f"messages[{index}]"):
            message = Message.from_dict(item)
            if message.id is None or message.timestamp is None:
                raise ValidationError("a message of an export has 'id' and 'timestamp'")
            if message.position != index + 1:
                raise ValidationError(f"'position' must be {index + 1}")
            return self._services.codec.message_record(message, counted=counted)

    def _exported_memories(self, scope: MemoryScope, data: JSONObject) -> list[MemoryRecord]:
        memories = []
        for index, item in enumerate(each_object(data, "memories")):
            with placed(f"memories[{index}]"):
                memories.append(self._exported_memory(scope, item))
        refuse_twice([memory.key for memory in memories], "memory key")
        return memories

    def _exported_memory(self, scope: MemoryScope, item: JSONObject) -> MemoryRecord:
        refuse_unknown(item, _MEMORY_FIELDS, "a memory")
        key = check_id(item.get("key"), "memory key")
        field_of(item, "past", list, [])
        entry: MemoryEntry = imported_entries({"memories": {key: item}})[0]
        record = self._services.codec.memory_record(scope, entry, decay_factor=_DECAY)
        rank = field_of(item, "retention", (int, float), record.retention)
        check_json(rank, where="retention")
        return attrs.evolve(record, retention=float(rank), created_at_us=to_microseconds(entry.created_at))

    # -- conversations of other products -----------------------------------------------------------

    def _from_foreign(self, foreign: ForeignSession, data: Any = None) -> ParsedSession:
        session_id = self._derived_id(data) if foreign.session_id is None else check_id(foreign.session_id)
        now = self._services.clock.now()
        messages = self._records(session_id, foreign.messages, foreign.created_at or now)
        created_at = foreign.created_at
        if created_at is None:
            created_at = from_microseconds(messages[0].created_at_us) if messages else now
        session = Session(
            session_id=session_id,
            personality={} if foreign.system_prompt is None else {"system_prompt": foreign.system_prompt},
            provider=self._provider,
            config=SessionConfig(title=foreign.title),
            created_at=created_at,
            last_activity=created_at,
            metadata=foreign.metadata,
        )
        return ParsedSession(record=self._header(session), messages=messages, memories=[], is_adopted=True)

    def _derived_id(self, data: Any) -> str:
        content = content_id(data)
        self._conversations[content] += 1
        number = self._conversations[content]
        return content if number == 1 else f"{content}-{number}"

    def _records(self, session_id: str, messages: Iterable[Message], time: datetime) -> list[MessageRecord]:
        """Return the records of messages; an id that is missing is derived, a time that is missing inherited."""
        records: list[MessageRecord] = []
        for message in messages:
            time = message.timestamp or time
            record = self._services.codec.message_record(stamped(message, id=message.id or "derived", timestamp=time))
            # orjson 3.13 leaves up to ten times the size of a text allocated; a copy is as large as it is
            payload = attrs.evolve(record.payload, data=bytes(memoryview(record.payload.data)))
            record = attrs.evolve(record, payload=payload)
            if message.id is None:
                facts = f"{session_id}\0{len(records) + 1}\0{record.role}\0".encode()
                derived = sha256(facts + record.payload.data).hexdigest()[:32]
                record = attrs.evolve(record, message_id=derived)
            records.append(record)
        refuse_twice([record.message_id for record in records], "message id")
        return records

    # -- helpers ---------------------------------------------------------------------------------

    def _header(self, session: Session) -> SessionRecord:
        record = self._services.codec.session_record(session)
        return attrs.evolve(record, created_at_us=to_microseconds(session.created_at))


def _system_prompt(item: JSONValue) -> str | None:
    """Return the text of a message that is only a system prompt, else None."""
    if not isinstance(item, dict) or item.keys() != {"role", "content"}:
        return None
    if item["role"] not in ("system", "developer"):
        return None
    return item["content"] if isinstance(item["content"], str) else None


def _chat_messages(items: Iterator[JSONObject], first: int) -> Iterator[Message]:
    for index, item in enumerate(items, first):
        with placed(f"messages[{index}]"):
            message = _chat_message(item)
            check_json(message.content, where="message['content']")
        yield message


def _chat_message(item: JSONObject) -> Message:
    metadata = {name: value for name, value in item.items() if name not in ("role", "content")}
    role = item.get("role")
    known = _OPENAI_ROLES.get(role, role) if isinstance(role, str) else role
    return Message(role=known, content=item.get("content"), metadata=metadata)


def _object(data: Any) -> JSONObject:
    if not isinstance(data, dict):
        raise ValidationError(f"a conversation is a JSON object, not {type(data).__name__}")
    return data


def _check_version(data: JSONObject) -> None:
    if data.get("version") != VERSION:
        raise ValidationError(f"this package reads version {VERSION} of its format, not another")


def _time_us(data: JSONObject, name: str) -> int:
    with placed(name):
        return to_microseconds(parse_time(data.get(name)))

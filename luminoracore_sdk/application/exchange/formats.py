"""Parsers of import formats: this package's export, OpenAI chat files, the older SDK's store.

A session is validated completely before any of it is written.
"""

import json
from collections import Counter
from datetime import datetime
from hashlib import sha256

import attrs

from luminoracore_sdk.application.exchange.fields import field_of, objects_of, placed, refuse_twice, refuse_unknown
from luminoracore_sdk.application.exchange.older_sdk import read_older_session
from luminoracore_sdk.application.memories import imported_entries
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRecord, SessionRecord
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
from luminoracore_sdk.domain.values import check_id, check_user_id, parse_time, to_microseconds

__all__ = ["FORMAT", "USER_FORMAT", "VERSION", "ParsedSession", "ParsedUser", "SessionParser"]


FORMAT = "luminora-session"
USER_FORMAT = "luminora-user"
VERSION = 1

_SESSION_FIELDS = frozenset(
    {
        *("format", "version", "session_id", "user_id", "tags", "ttl_us", "created_at"),
        *("document", "messages", "memories"),
    }
)
_MEMORY_FIELDS = frozenset({"key", "value", "category", "importance", "retention", "created_at", "expires_at"})
_OPENAI_ROLES = {"developer": "system", "function": "tool"}
_DECAY = MemoryConfig().decay_factor


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
        self._chats: Counter[str] = Counter()

    def read_line(self, data: JSONValue) -> ParsedSession:
        """Return the session of one line: an export, or an OpenAI chat (``{"messages": […]}``).

        The id of a chat is derived from its content, and from its number among equal chats, so that parsing a
        file again gives the same ids. If the first message is a system message of plain text, it becomes the
        personality's ``system_prompt``; other keys of a message become its metadata, other keys of the line
        the session's metadata.

        Raises:
            ValidationError: The value is neither, or is invalid.
        """
        if not isinstance(data, dict):
            raise ValidationError(f"a session is a JSON object, not {type(data).__name__}")
        if data.get("format") == FORMAT:
            return self._from_export(data)
        if "format" not in data and "messages" in data:
            return self._from_chat(data)
        raise ValidationError(
            f"neither a session of this package ('format': '{FORMAT}') nor an OpenAI chat ('messages': [...])"
        )

    def read_user(self, data: JSONValue) -> ParsedUser | None:
        """Return the memories of a user of one line of an export; None: the line is of another kind.

        Raises:
            ValidationError: The value is invalid.
        """
        if not isinstance(data, dict) or data.get("format") != USER_FORMAT:
            return None
        _check_version(data)
        refuse_unknown(data, frozenset({"format", "version", "user_id", "memories"}), "a user")
        user_id = check_user_id(data.get("user_id"))
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
            messages=[self._record(message) for message in older.messages],
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
        record = SessionRecord(
            session_id=check_id(data.get("session_id")),
            payload=self._values.encode(field_of(data, "document", dict), where="document"),
            user_id=field_of(data, "user_id", str, None),
            tags=tuple(check_id(tag, "tag") for tag in field_of(data, "tags", list, [])),
            ttl_us=field_of(data, "ttl_us", int, None),
            created_at_us=_time_us(data, "created_at"),
        )
        self._check_document(record, data["document"])
        messages = [self._exported_message(*numbered) for numbered in enumerate(objects_of(data, "messages"))]
        memories = self._exported_memories(MemoryScope("session", record.session_id), data)
        refuse_twice([message.message_id for message in messages], "message id")
        return ParsedSession(record=record, messages=messages, memories=memories)

    def _check_document(self, record: SessionRecord, document: JSONObject) -> None:
        """Refuse a damaged document of a SessionManager; a document of the caller may be any object."""
        if "v" not in document:
            return
        try:
            self._services.codec.session(record, backend="import")
        except CorruptRecordError as exc:
            raise ValidationError(f"document: {exc.reason}") from exc

    def _exported_message(self, index: int, item: JSONObject) -> MessageRecord:
        with placed(f"messages[{index}]"):
            message = Message.from_dict(item)
            if message.id is None or message.timestamp is None:
                raise ValidationError("a message of an export has 'id' and 'timestamp'")
            if message.position != index + 1:
                raise ValidationError(f"'position' must be {index + 1}")
            return self._services.codec.message_record(message)

    def _exported_memories(self, scope: MemoryScope, data: JSONObject) -> list[MemoryRecord]:
        memories = []
        for index, item in enumerate(objects_of(data, "memories")):
            with placed(f"memories[{index}]"):
                memories.append(self._exported_memory(scope, item))
        refuse_twice([memory.key for memory in memories], "memory key")
        return memories

    def _exported_memory(self, scope: MemoryScope, item: JSONObject) -> MemoryRecord:
        refuse_unknown(item, _MEMORY_FIELDS, "a memory")
        key = check_id(item.get("key"), "memory key")
        entry: MemoryEntry = imported_entries({"memories": {key: item}})[0]
        record = self._services.codec.memory_record(scope, entry, decay_factor=_DECAY)
        rank = field_of(item, "retention", (int, float), record.retention)
        check_json(rank, where="retention")
        return attrs.evolve(record, retention=float(rank), created_at_us=to_microseconds(entry.created_at))

    # -- OpenAI chats ----------------------------------------------------------------------------

    def _from_chat(self, data: JSONObject) -> ParsedSession:
        items = objects_of(data, "messages")
        if not items:
            raise ValidationError("'messages' is empty")
        prompt = _system_prompt(items[0])
        now = self._services.clock.now()
        session = Session(
            session_id=self._chat_id(data),
            personality={} if prompt is None else {"system_prompt": prompt},
            provider=self._provider,
            created_at=now,
            last_activity=now,
            metadata={name: value for name, value in data.items() if name != "messages"},
        )
        messages: list[MessageRecord] = []
        for index, item in enumerate(items):
            if index or prompt is None:
                with placed(f"messages[{index}]"):
                    messages.append(self._record(_chat_message(item, now)))
        return ParsedSession(record=self._header(session), messages=messages, memories=[], is_adopted=True)

    def _chat_id(self, data: JSONObject) -> str:
        content = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]
        self._chats[content] += 1
        number = self._chats[content]
        return content if number == 1 else f"{content}-{number}"

    # -- helpers ---------------------------------------------------------------------------------

    def _header(self, session: Session) -> SessionRecord:
        record = self._services.codec.session_record(session)
        return attrs.evolve(record, created_at_us=to_microseconds(session.created_at))

    def _record(self, message: Message) -> MessageRecord:
        return self._services.codec.message_record(attrs.evolve(message, id=self._services.ids.new_id()))


def _system_prompt(item: JSONObject) -> str | None:
    """Return the text of a message that is only a system prompt, else None."""
    if item.keys() != {"role", "content"} or _OPENAI_ROLES.get(item["role"], item["role"]) != "system":
        return None
    return item["content"] if isinstance(item["content"], str) else None


def _chat_message(item: JSONObject, now: datetime) -> Message:
    metadata = {name: value for name, value in item.items() if name not in ("role", "content")}
    role = item.get("role")
    known = _OPENAI_ROLES.get(role, role) if isinstance(role, str) else role
    return Message(role=known, content=item.get("content"), timestamp=now, metadata=metadata)


def _check_version(data: JSONObject) -> None:
    if data.get("version") != VERSION:
        raise ValidationError(f"this package reads version {VERSION} of its format, not another")


def _time_us(data: JSONObject, name: str) -> int:
    with placed(name):
        return to_microseconds(parse_time(data.get(name)))

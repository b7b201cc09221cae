"""The documented API as type checkers see it. mypy and pyright check this file; pytest runs it too."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, assert_type

from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.session import (
    Conversation,
    ConversationManager,
    InMemoryStorage,
    JSONFileStorage,
    MemoryManager,
    OptimizedStorageWrapper,
    PersonalitySession,
    Session,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
    create_storage,
)
from luminoracore_sdk.storage import (
    AppendReceipt,
    BaseStorage,
    Clock,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    PayloadRewrite,
    Purged,
    SessionQuery,
    SessionRecord,
    StorageWrapper,
    is_live,
    replay_receipt,
)
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.types.session import MemoryConfig, Message, SessionConfig, StorageConfig, StorageType

JSONObject = dict[str, Any]
JSONValue = None | bool | int | float | str | list[Any] | dict[str, Any]


async def test_sessions_have_the_documented_types() -> None:
    manager = SessionManager()
    session_id = await manager.create_session(
        personality={"name": "Ada"},
        provider_config={"name": "echo"},
        session_config=SessionConfig(max_history=10),
    )
    assert_type(session_id, str)
    assert_type(await manager.get_session(session_id), Session | None)
    assert_type(await manager.load_session(session_id), Session | None)
    assert_type(await manager.save_session(session_id), bool)
    assert_type(await manager.send_message(session_id, "Hello", temperature=0.2), ChatResponse)
    async for delta in manager.stream_message(session_id, "Hello", max_tokens=5):
        assert_type(delta, ChatResponse)
        assert_type(delta.content, str)
    assert_type(await manager.get_conversation(session_id), Conversation | None)
    assert_type(await manager.get_session_info(session_id), JSONObject | None)
    assert_type(await manager.list_sessions(), list[str])
    assert_type(await manager.update_personality(session_id, {"name": "Grace"}), bool)
    assert_type(await manager.clear_conversation(session_id), bool)
    assert_type(await manager.delete_session(session_id), bool)
    assert_type(PersonalitySession, type[SessionManager])


async def test_conversations_have_the_documented_types() -> None:
    conversation = ConversationManager(max_history=20)
    assert_type(await conversation.create_conversation("s"), Conversation)
    assert_type(await conversation.add_message("s", "user", "Hello", {"lang": "en"}), Message)
    assert_type(await conversation.add_message("s", {"role": "user", "content": "Hi"}), Message)
    assert_type(await conversation.get_messages("s", limit=5, offset=0), list[Message])
    assert_type(await conversation.get_recent_messages("s", 2), list[Message])
    assert_type(await conversation.get_last_message("s"), Message | None)
    assert_type(await conversation.get_message_count("s"), int)
    assert_type(await conversation.search_messages("s", "hello"), list[Message])
    assert_type(await conversation.get_messages_by_role("s", "user"), list[Message])
    assert_type(await conversation.get_conversation_summary("s"), JSONObject | None)
    assert_type(await conversation.get_conversation_stats("s"), JSONObject | None)
    assert_type(await conversation.list_conversations(), list[str])
    assert_type(await conversation.clear_conversation("s"), bool)
    assert_type(await conversation.delete_conversation("s"), bool)


async def test_memories_have_the_documented_types() -> None:
    optimizer = Optimizer(OptimizationConfig(key_abbreviation=True, compact_format=True, minify_json=True))
    memory = MemoryManager(config=MemoryConfig(), optimizer=optimizer)
    assert_type(await memory.store_memory("s", "key", "value", ttl=60), bool)
    assert_type(await memory.get_memory("s", "key"), JSONValue)
    assert_type(await memory.list_memories("s"), list[str])
    assert_type(await memory.get_memory_info("s", "key"), JSONObject | None)
    assert_type(await memory.get_memory_stats("s"), JSONObject | None)
    assert_type(await memory.get_stats(), JSONObject)
    assert_type(await memory.search_memories("s", "value", limit=1), list[JSONObject])
    exported = await memory.export_memories("s")
    assert exported is not None
    assert_type(await memory.import_memories("s", exported), bool)
    assert_type(await memory.cleanup_expired_memories(), int)
    assert_type(await memory.delete_memory("s", "key"), bool)
    assert_type(await memory.clear_memory("s"), bool)


async def test_storages_have_the_documented_types(tmp_path: Path) -> None:
    plain: SessionStorage = create_storage(StorageConfig(storage_type=StorageType.MEMORY))
    assert_type(await plain.save_session("s", {"any": ["JSON", None]}), bool)
    assert_type(await plain.load_session("s"), JSONObject | None)
    assert_type(await plain.session_exists("s"), bool)
    assert_type(await plain.list_sessions(), list[str])
    assert_type(await plain.delete_session("s"), bool)
    every: list[SessionStorage] = [
        InMemoryStorage(),
        JSONFileStorage(tmp_path / "files"),
        SQLiteStorage(tmp_path / "store.db"),
        OptimizedStorageWrapper(InMemoryStorage(), Optimizer()),
    ]
    assert [storage.backend for storage in every] == ["memory", "json", "sqlite", "memory"]


def test_a_custom_provider_has_the_documented_types() -> None:
    class Parrot(BaseProvider):
        def get_default_model(self) -> str:
            return "parrot-1"

        async def chat(
            self,
            messages: list[ChatMessage],
            temperature: float = 0.7,
            max_tokens: int | None = None,
            **kwargs: Any,
        ) -> ChatResponse:
            return ChatResponse(content=str(messages[-1].content))

        async def stream_chat(
            self,
            messages: list[ChatMessage],
            temperature: float = 0.7,
            max_tokens: int | None = None,
            **kwargs: Any,
        ) -> AsyncIterator[ChatResponse]:
            for word in str(messages[-1].content).split():
                yield ChatResponse(content=word)

    ProviderFactory.register_provider("parrot", Parrot)
    try:
        provider = ProviderFactory.create_provider(ProviderConfig(name="parrot"))
        assert_type(provider, BaseProvider)
        assert provider.get_default_model() == "parrot-1"
    finally:
        ProviderFactory.unregister_provider("parrot")


async def test_the_storage_module_is_enough_for_an_adapter() -> None:
    class Counting(StorageWrapper):
        appends = 0

        async def append_messages(
            self,
            session_id: str,
            messages: Sequence[MessageRecord],
            *,
            expected_last: int | None = None,
            fence: int | None = None,
        ) -> AppendReceipt:
            self.appends += 1
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    storage = Counting(InMemoryStorage())
    assert issubclass(BaseStorage, SessionStorage)
    header = await storage.put_session(SessionRecord(session_id="s", payload=Payload("json", b"{}")))
    assert_type(header, SessionRecord)
    message = MessageRecord(message_id="m", role="user", created_at_us=0, payload=Payload("json", b"{}"))
    assert_type(await storage.append_messages("s", [message]), AppendReceipt)
    assert_type(await storage.read_messages("s", MessageRange()), list[MessageRecord])
    assert_type(await storage.query_sessions(SessionQuery()), Page)
    assert_type(await storage.find_memory(MemoryScope("user", "u"), "k"), MemoryRecord | None)
    assert_type(await storage.purge_expired(), Purged)
    assert_type(is_live(0, None, 1), bool)
    assert_type(replay_receipt("memory", [message], {}), AppendReceipt | None)
    change = PayloadRewrite(position=1, message_id="m", old=message.payload, new=message.payload)
    assert_type(change.fits(message), bool)
    clock: type[Clock] | None = None
    assert (storage.appends, clock) == (1, None)

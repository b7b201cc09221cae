"""A chat engine of LlamaIndex."""

# pyright: reportMissingImports=false

from collections.abc import Sequence
from typing import Any

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
from llama_index.core.memory import Memory

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.llama_index import LuminoraChatStore


class FakeModel(MockLLM):
    """Answers at once."""

    async def achat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        asked = [message.content for message in messages if message.role == "user"]
        return ChatResponse(message=ChatMessage(role="assistant", content=f"after {len(asked) - 1}: {asked[-1]}"))


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    memory = Memory.from_defaults(session_id=session_id, chat_store=LuminoraChatStore(store))
    engine = SimpleChatEngine.from_defaults(llm=FakeModel(), memory=memory)
    return str(await engine.achat(text))


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    return [str(message.content) for message in await LuminoraChatStore(store).aget_messages(session_id)]

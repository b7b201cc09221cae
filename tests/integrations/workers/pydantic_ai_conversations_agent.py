"""An agent of Pydantic AI whose conversations are stored with their branches."""

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.models.function import FunctionModel

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.pydantic_ai import LuminoraConversationStore
from tests.integrations.workers.pydantic_ai_agent import answer


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    conversations = LuminoraConversationStore(store)
    while True:
        found = await conversations.load(session_id) or Conversation(conversation_id=session_id)
        result = await Agent(FunctionModel(answer)).run(text, conversation=found)
        try:
            await conversations.save(result)
        except ConversationConflict:  # another process has saved a turn
            continue
        return str(result.output)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    found = await LuminoraConversationStore(store).load(session_id)
    messages: list[Any] = [] if found is None else found.messages
    return [str(message.parts[0].content) for message in messages]

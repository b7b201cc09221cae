"""An agent of Microsoft's Agent Framework."""

# pyright: reportMissingImports=false

from typing import Any

from agent_framework import Agent, BaseChatClient, ChatResponse, Message

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.agent_framework import LuminoraHistoryProvider


class FakeClient(BaseChatClient):
    """Answers at once."""

    async def _inner_get_response(self, *, messages: Any, **_: Any) -> ChatResponse:
        asked = [message.text for message in messages if message.role == "user"]
        return ChatResponse(messages=[Message("assistant", [f"after {len(asked) - 1}: {asked[-1]}"])])


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    agent = Agent(client=FakeClient(), context_providers=[LuminoraHistoryProvider(store)])
    response = await agent.run(text, session=agent.create_session(session_id=session_id))
    return str(response.text)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    messages: list[Any] = await LuminoraHistoryProvider(store).get_messages(session_id)
    return [message.text for message in messages]

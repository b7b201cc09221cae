"""An agent of Strands."""

# pyright: reportMissingImports=false

from collections.abc import AsyncIterator
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.strands import LuminoraSessionRepository

_agents: dict[str, Agent] = {}


class FakeModel(Model):
    """Answers at once."""

    def update_config(self, **_: Any) -> None: ...

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError  # the runs of this worker ask for no structured output

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        asked = [message["content"][0]["text"] for message in messages if message["role"] == "user"]
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": f"after {len(asked) - 1}: {asked[-1]}"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    if session_id not in _agents:
        manager = RepositorySessionManager(session_id, session_repository=LuminoraSessionRepository(store))
        _agents[session_id] = Agent(agent_id="agent", model=FakeModel(), session_manager=manager, callback_handler=None)
    result = await _agents[session_id].invoke_async(text)
    return str(result).strip()


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    messages = LuminoraSessionRepository(store).list_messages(session_id, "agent")
    return [message.message["content"][0]["text"] for message in messages]

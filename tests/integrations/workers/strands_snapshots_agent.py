"""An agent of Strands whose snapshots are stored."""

# pyright: reportMissingImports=false

from strands import Agent
from strands.session import SnapshotSessionManager

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.strands import LuminoraStorage
from tests.integrations.workers.strands_agent import FakeModel

_agents: dict[str, Agent] = {}


def _agent(store: StorageConfig, session_id: str) -> Agent:
    if session_id not in _agents:
        manager = SnapshotSessionManager(session_id, storage=LuminoraStorage(store))
        _agents[session_id] = Agent(agent_id="agent", model=FakeModel(), session_manager=manager, callback_handler=None)
    return _agents[session_id]


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    return str(await _agent(store, session_id).invoke_async(text)).strip()


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    return [message["content"][0]["text"] for message in _agent(store, session_id).messages]

"""An agent of the Claude Agent SDK, with a stand-in for the ``claude`` program."""

# pyright: reportMissingImports=false

import os
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, project_key_for_directory, query

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.claude_agent_sdk import LuminoraSessionStore

_CLI = Path(__file__).with_name("claude_cli.py")
_PROJECT = Path("/")

os.environ["CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK"] = "1"


def key(session_id: str) -> Any:
    return {
        "project_key": project_key_for_directory(str(_PROJECT)),
        "session_id": str(uuid5(NAMESPACE_URL, session_id)),
    }


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    sessions, name = LuminoraSessionStore(store), key(session_id)["session_id"]
    known = await sessions.load(key(session_id))
    options = ClaudeAgentOptions(
        cli_path=_CLI,
        cwd=_PROJECT,
        session_store=sessions,
        **({"resume": name} if known else {"session_id": name}),
    )
    received = [message async for message in query(prompt=text, options=options)]
    return str(next(message.result for message in received if isinstance(message, ResultMessage)))


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    entries: list[Any] = await LuminoraSessionStore(store).load(key(session_id)) or []
    contents = [entry["message"]["content"] for entry in entries]
    return [content if isinstance(content, str) else content[0]["text"] for content in contents]

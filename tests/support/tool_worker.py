"""The process that is killed in the middle of a run of tools: ``tool_worker.py store moment``.

It kills itself at the moment that it is given, and continues what it finds in the store. A line in ``store.log`` tells
of each question that the provider was asked and each run of the tool.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import attrs

from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.tools import run_tools
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from tests.support.stub_provider import StubProvider
from tests.support.tool_answers import calling


def note(place: str, word: str) -> None:
    with Path(f"{place}.log").open("a") as log:
        log.write(f"{word}\n")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@attrs.frozen
class Moment:
    """The moment at which the process kills itself, and the store."""

    name: str
    place: str

    def passed(self, name: str) -> None:
        if name == self.name:
            die()


def provider_of(moment: Moment) -> type[StubProvider]:
    class Provider(StubProvider):
        async def answer(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> ChatResponse:
            note(moment.place, "asked")
            if messages[-1].role != "tool":
                moment.passed("first answer")
                return calling(("c1", "look", {"at": "sky"}))
            assert messages[-1].content == "blue"
            moment.passed("second request")
            return ChatResponse("It is blue.", finish_reason="stop")

    return Provider


def killed_in_append(manager: SessionManager, moment: Moment) -> None:
    """Replace the append of a manager by one that is reached at the moment "second append"."""
    appended = manager.conversation_manager.append

    async def append(session_id: str, messages: Any, **options: Any) -> Any:
        if messages[-1].content == "It is blue.":
            moment.passed("second append")
        return await appended(session_id, messages, **options)

    manager.conversation_manager.append = append  # type: ignore[method-assign]


async def main(place: str, name: str) -> None:
    moment = Moment(name, place)

    def look(at: str) -> str:
        note(place, "ran")
        moment.passed("tool")
        return "blue"

    ProviderFactory.register_provider("worker", provider_of(moment))
    async with create_storage(f"sqlite:///{place}") as storage, SessionManager(storage) as manager:
        killed_in_append(manager, moment)
        if not await storage.session_exists("s"):
            await manager.create_session({"name": "Ada"}, {"name": "worker"}, {"session_id": "s"})
        has_begun = await manager.conversation_manager.get_message_count("s") > 0
        answer = await run_tools(manager, "s", None if has_begun else "What colour is the sky?", [look])
        assert answer.content == "It is blue."


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Processes that run tools and can be killed at each moment: ``tool_run_worker.py factory wire whole|streamed``.

For each line of its input, JSON with the provider and the place of the store, it forks a process that runs the
conversation. Without a place it runs it itself, in memory: everything is then imported once for all later processes.
What happens is said in lines on its output: ``began PID``, ``reached MOMENT``, at which the process waits for a
byte on its input, and ``ended STATUS``.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from threading import Lock
from typing import Any

from luminoracore_sdk.application.tools import OnDelta
from luminoracore_sdk.session import InMemoryStorage, SessionManager
from luminoracore_sdk.storage import AppendReceipt, MessageRecord, SessionStorage, StorageWrapper
from luminoracore_sdk.tools import run_tools, tool_of
from luminoracore_sdk.types.session import Message

__all__ = ["PICTURE", "QUESTION"]

PICTURE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"},
}
QUESTION = Message("user", [{"type": "text", "text": "What is the weather here?"}, PICTURE], id="question-1")

_one_at_a_time = Lock()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def reach(moment: str) -> None:
    """Say that a moment has come; the process may be killed here."""
    with _one_at_a_time:
        say(f"reached {moment}")
        os.read(0, 1)


class Watched(StorageWrapper):
    """Reaches a moment before and after each append."""

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        reach("append begins")
        receipt = await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)
        reach("append ended")
        return receipt


async def locate(country: str) -> str:
    """Return the city that a picture shows."""
    reach("locate begins")
    await asyncio.sleep(0)
    reach("locate ends")
    return f"Turin, {country}"


def forecast(city: str) -> str:
    """Return the forecast for a city."""
    reach("forecast begins")
    reach("forecast fails")
    raise LookupError(f"no station in {city}")


def look_on_anthropic(at: str) -> list[dict[str, Any]]:
    """Return what a camera shows."""
    reach("look begins")
    shown: list[dict[str, Any]] = [{"type": "text", "text": f"The {at}:"}, PICTURE]
    reach("look ends")
    return shown


def look_on_openai(at: str) -> dict[str, Any]:
    """Return what a camera sees."""
    reach("look begins")
    seen = {"at": at, "clouds": 3}
    reach("look ends")
    return seen


async def run(storage: SessionStorage, provider: dict[str, Any], look: Any, on_delta: OnDelta | None) -> None:
    """Ask the question, continuing what is stored."""
    async with Watched(storage) as opened, SessionManager(opened) as manager:
        if not await opened.session_exists("s"):
            await manager.create_session({"name": "Ada"}, provider, {"session_id": "s"})
        reach("run begins")
        tools = [tool_of(locate), tool_of(forecast), tool_of(look, name="look")]
        answer = await run_tools(manager, "s", QUESTION, tools, on_delta=on_delta)
        assert answer.content == "It is sunny in Turin."
        reach("run ended")


def main(factory: str, wire: str, mode: str) -> None:
    module, _, name = factory.partition(":")
    make = getattr(import_module(module), name)
    look = look_on_anthropic if wire == "anthropic" else look_on_openai
    on_delta = (lambda _: reach("delta came")) if mode == "streamed" else None
    while line := _line():
        provider, place = json.loads(line)
        if place is None:
            asyncio.run(run(InMemoryStorage(), provider, look, on_delta))
            say("ended 0")
            gc.freeze()  # a collection in a forked process would copy every page
            continue
        process = os.fork()
        if process == 0:
            status = 1
            say(f"began {os.getpid()}")
            try:
                asyncio.run(run(make(place), provider, look, on_delta))
                status = 0
            except BaseException:  # noqa: BLE001  # the process must not go on in this loop
                traceback.print_exc()
            finally:
                os._exit(status)
        say(f"ended {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}")


def _line() -> bytes:
    """Return one line of the input, without reading what is meant for the forked process."""
    line = b""
    while not line.endswith(b"\n") and (character := os.read(0, 1)):
        line += character
    return line


if __name__ == "__main__":
    logging.disable()  # the failure of a tool is part of the conversation
    main(*sys.argv[1:])

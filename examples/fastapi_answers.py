"""Answers under way, streamed as server-sent events.

Each answer is read by a task of its own, so that it goes on when its client leaves.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from fastapi_app import answer_to

from luminoracore_sdk.session import UserSessions
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.utils.exceptions import LuminoraCoreSDKError, SessionBusyError

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies pass each event on at once

Events = asyncio.Queue[ChatResponse | LuminoraCoreSDKError | None]


class Answers:
    """The answers under way in this process, by user and conversation."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def begin(
        self, user: UserSessions, conversation: str, deltas: AsyncGenerator[ChatResponse, None]
    ) -> StreamingResponse:
        """Stream an answer: ``data`` for each delta, then ``end`` or ``error``.

        Raises:
            LuminoraCoreSDKError: There is no answer; the status of the response can still say so.
        """
        key = (user.user_id, conversation)
        if key in self._tasks:
            raise SessionBusyError(conversation, own_stream=False)
        events: Events = asyncio.Queue()
        task = self._tasks[key] = asyncio.create_task(read(deltas, events))

        def end(_: asyncio.Task[None]) -> None:
            del self._tasks[key]
            events.put_nowait(None)

        task.add_done_callback(end)
        first = await events.get()
        if isinstance(first, LuminoraCoreSDKError):
            raise first
        return StreamingResponse(server_sent_events(first, events), headers=HEADERS, media_type="text/event-stream")

    async def stop_all(self) -> None:
        """Stop every answer."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def read(deltas: AsyncGenerator[ChatResponse, None], events: Events) -> None:
    """Read an answer to its end, or to the error that ends it."""
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                events.put_nowait(delta)
    except LuminoraCoreSDKError as exc:
        events.put_nowait(exc)


async def server_sent_events(event: ChatResponse | LuminoraCoreSDKError | None, events: Events) -> AsyncIterator[str]:
    """Yield an event and those that follow it."""
    while event is not None:
        if isinstance(event, LuminoraCoreSDKError):
            yield f"event: error\ndata: {json.dumps(answer_to(event)[1])}\n\n"
            return
        told = {"content": event.content, "id": event.id, "finish_reason": event.finish_reason}
        yield f"data: {json.dumps(told)}\n\n"
        event = await events.get()
    yield "event: end\ndata: {}\n\n"

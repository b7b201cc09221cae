"""A conversation service: FastAPI in front, the container of the SDK behind it.

Settings come from the environment: ``LUMINORA_STORE=sqlite:////var/lib/chat.db uvicorn fastapi_app:app``.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from luminoracore_sdk.container import make_container, running
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.utils.exceptions import (
    LuminoraCoreSDKError,
    ProviderError,
    SessionNotFoundError,
    StorageUnavailableError,
    ValidationError,
)

PROVIDER = {"name": os.environ.get("CHAT_PROVIDER", "echo")}  # its key: <NAME>_API_KEY


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store before the first request, close it after the last one."""
    async with running(make_container()) as manager:
        app.state.manager = manager
        yield


app = FastAPI(lifespan=lifespan)


def session_manager(request: Request) -> SessionManager:
    """Return the one manager of this process."""
    manager: SessionManager = request.app.state.manager
    return manager


Manager = Annotated[SessionManager, Depends(session_manager)]


class NewSession(BaseModel):
    """What a client chooses. The provider is the service's choice, and so is its key."""

    personality: dict[str, Any] = {"name": "Ada", "system_prompt": "You are Ada."}
    user_id: str | None = None


class Question(BaseModel):
    """One message of the user."""

    content: str


@app.post("/sessions", status_code=201)
async def create_session(new: NewSession, manager: Manager) -> dict[str, str]:
    """Begin a session."""
    session_id = await manager.create_session(new.personality, PROVIDER, {"user_id": new.user_id})
    return {"session_id": session_id}


@app.post("/sessions/{session_id}/messages")
async def send_message(session_id: str, question: Question, manager: Manager) -> dict[str, Any]:
    """Return the whole answer."""
    response = await manager.send_message(session_id, question.content)
    return {"content": response.content, "finish_reason": response.finish_reason}


@app.get("/sessions/{session_id}/stream")
async def stream_message(session_id: str, content: str, manager: Manager) -> StreamingResponse:
    """Stream the answer as server-sent events: ``data`` for each delta, then ``end`` or ``error``."""
    if await manager.get_session(session_id) is None:
        raise SessionNotFoundError(session_id)
    return StreamingResponse(server_sent_events(manager, session_id, content), media_type="text/event-stream")


async def server_sent_events(manager: SessionManager, session_id: str, content: str) -> AsyncIterator[str]:
    """Yield the events. If the client goes away, the stream is closed and nothing of the turn is kept."""
    try:
        async with aclosing(manager.stream_message(session_id, content)) as deltas:
            async for delta in deltas:
                yield f"data: {json.dumps({'content': delta.content})}\n\n"
    except LuminoraCoreSDKError as exc:  # the headers are sent: the status cannot say it any more
        yield f"event: error\ndata: {json.dumps({'error': exc.error_code})}\n\n"
    else:
        yield "event: end\ndata: {}\n\n"


@app.get("/sessions/{session_id}/messages")
async def history(
    session_id: str, manager: Manager, limit: int = 50, offset: int = 0
) -> list[dict[str, Any]]:
    """Return messages, oldest first."""
    if await manager.get_session(session_id) is None:
        raise SessionNotFoundError(session_id)
    messages = await manager.conversation_manager.get_messages(session_id, limit, offset)
    return [message.to_dict() for message in messages]


STATUS = {SessionNotFoundError: 404, ValidationError: 422, ProviderError: 502, StorageUnavailableError: 503}


@app.exception_handler(LuminoraCoreSDKError)
async def explain(_: Request, exc: LuminoraCoreSDKError) -> JSONResponse:
    """Turn the SDK's errors into HTTP's; their texts hold no key and no message."""
    status = next((code for kind, code in STATUS.items() if isinstance(exc, kind)), 500)
    return JSONResponse({"error": exc.error_code, "detail": str(exc)}, status)

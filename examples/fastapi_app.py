"""A conversation service: FastAPI in front, the container of the SDK behind it.

Conversations are kept in ``chat.db`` in the working directory. Settings come from the environment:
``LUMINORA_STORE=sqlite:////var/lib/chat.db CHAT_PROVIDER=openai uvicorn fastapi_app:app``.
"""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from luminoracore_sdk.container import make_container, running
from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.types.session import Settings
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    LuminoraCoreSDKError,
    MessageNotFoundError,
    ProviderError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    StorageUnavailableError,
    TurnInterruptedError,
    ValidationError,
)

logger = logging.getLogger(__name__)

PERSONALITY = {"name": "Ada", "system_prompt": "You are Ada."}
PROVIDER: dict[str, Any] = {"name": os.environ.get("CHAT_PROVIDER", "echo")}  # its key: <NAME>_API_KEY


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Check the provider and open the store before the first request, close after the last one."""
    await ProviderFactory.create_provider_from_dict(PROVIDER).close()  # a missing key ends the start here
    settings = Settings.from_environment({"LUMINORA_STORE": "sqlite:///chat.db", **os.environ})
    async with running(make_container(settings)) as manager:
        app.state.manager = manager
        yield


class AsciiJSONResponse(JSONResponse):
    """JSON in ASCII: a lone surrogate, which JSON can say and UTF-8 cannot, is escaped."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False).encode("ascii")


app = FastAPI(lifespan=lifespan, default_response_class=AsciiJSONResponse)


def session_manager(request: Request) -> SessionManager:
    """Return the one manager of this process."""
    manager: SessionManager = request.app.state.manager
    return manager


Manager = Annotated[SessionManager, Depends(session_manager)]


class NewSession(BaseModel):
    """What a client chooses. The provider is the service's choice, and so is its key."""

    personality: dict[str, Any] = PERSONALITY
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


@app.post("/sessions/{session_id}/stream")
async def stream_message(session_id: str, question: Question, manager: Manager) -> StreamingResponse:
    """Stream the answer as server-sent events: ``data`` for each delta, then ``end`` or ``error``."""
    if await manager.get_session(session_id) is None:
        raise SessionNotFoundError(session_id)
    events = server_sent_events(manager, session_id, question.content)
    return StreamingResponse(events, media_type="text/event-stream")


async def server_sent_events(manager: SessionManager, session_id: str, content: str) -> AsyncIterator[str]:
    """Yield the events. If the client goes away, the stream is closed and nothing of the turn is kept."""
    try:
        async with aclosing(manager.stream_message(session_id, content)) as deltas:
            async for delta in deltas:
                yield f"data: {json.dumps({'content': delta.content})}\n\n"
    except LuminoraCoreSDKError as exc:  # the headers are sent: the status cannot say it any more
        _, error = answer_to(exc)
        yield f"event: error\ndata: {json.dumps(error)}\n\n"
    else:
        yield "event: end\ndata: {}\n\n"


@app.get("/sessions/{session_id}/messages")
async def history(session_id: str, manager: Manager, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
    """Return messages, oldest first."""
    if await manager.get_session(session_id) is None:
        raise SessionNotFoundError(session_id)
    messages = await manager.conversation_manager.get_messages(session_id, limit, offset)
    return [message.to_dict() for message in messages]


CLIENT_ERRORS = {
    SessionNotFoundError: 404,
    MessageNotFoundError: 404,
    SessionBusyError: 409,
    SessionExistsError: 409,
    TurnInterruptedError: 409,
    ConflictError: 409,
    ValidationError: 422,
}
SERVICE_ERRORS = {ProviderError: 502, StorageUnavailableError: 503, LuminoraCoreSDKError: 500}


def answer_to(exc: LuminoraCoreSDKError) -> tuple[int, dict[str, str]]:
    """Return status and body. What is the service's own affair goes to its log, not to the client."""
    for kind, status in CLIENT_ERRORS.items():
        if isinstance(exc, kind):
            return status, {"error": exc.error_code, "detail": str(exc)}
    logger.error("a request failed: %s", exc)
    status = next(code for kind, code in SERVICE_ERRORS.items() if isinstance(exc, kind))
    return status, {"error": "ServiceError", "detail": "the service could not answer; its log says why"}


@app.exception_handler(LuminoraCoreSDKError)
async def explain(_: Request, exc: LuminoraCoreSDKError) -> JSONResponse:
    """Turn the SDK's errors into HTTP's."""
    status, error = answer_to(exc)
    return AsciiJSONResponse(error, status)


@app.exception_handler(RequestValidationError)
async def refuse(_: Request, exc: RequestValidationError) -> JSONResponse:
    """Say what is wrong with a request, without repeating what was in it."""
    detail = [{"where": list(error["loc"]), "problem": error["msg"]} for error in exc.errors()]
    return AsciiJSONResponse({"error": "RequestValidationError", "detail": detail}, 422)

"""A support service: FastAPI in front, a model that looks up orders behind it.

Conversations are kept in ``support.db`` in the working directory. A client names each question with an id; sending
the same id again continues a run that was interrupted, or returns its answer. Settings come from the environment:
``LUMINORA_STORE=sqlite:////var/lib/support.db CHAT_PROVIDER=openai uvicorn fastapi_tools:app``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from luminoracore_sdk.container import make_container, running
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.tools import run_tools, send_structured
from luminoracore_sdk.types.session import Message, Settings
from luminoracore_sdk.utils.exceptions import (
    LuminoraCoreSDKError,
    ProviderError,
    SessionNotFoundError,
    StructuredOutputError,
    ToolStepsError,
)

PROVIDER = {"name": os.environ.get("CHAT_PROVIDER", "echo"), "base_url": os.environ.get("CHAT_BASE_URL")}
PERSONALITY = {"name": "Ada", "system_prompt": "You answer questions about orders."}

ORDERS = {17: {"item": "tea", "place": "Ghent"}, 18: {"item": "honey", "place": "Lyon"}}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store before the first request, close it after the last one."""
    settings = Settings.from_environment({"LUMINORA_STORE": "sqlite:///support.db", **os.environ})
    async with running(make_container(settings)) as manager:
        app.state.manager = manager
        yield


app = FastAPI(lifespan=lifespan)


def session_manager(request: Request) -> SessionManager:
    """Return the one manager of this process."""
    manager: SessionManager = request.app.state.manager
    return manager


Manager = Annotated[SessionManager, Depends(session_manager)]


async def find_order(number: int) -> dict[str, Any]:
    """Return what was ordered and where it is.

    Args:
        number: The number of the order.
    """
    if number not in ORDERS:
        raise LookupError(f"there is no order {number}")
    return ORDERS[number]


class Question(BaseModel):
    """A question under an id that the client chose."""

    id: str = Field(min_length=1, max_length=100)
    content: str


class Mood(BaseModel):
    """What the model thinks of the conversation."""

    mood: Literal["glad", "neutral", "angry"]
    needs_a_person: bool


@app.post("/sessions", status_code=201)
async def create_session(manager: Manager) -> dict[str, str]:
    """Create a session."""
    return {"session_id": await manager.create_session(PERSONALITY, PROVIDER)}


@app.post("/sessions/{session_id}/messages")
async def ask(session_id: str, question: Question, manager: Manager) -> dict[str, Any]:
    """Return the answer; a repeated request asks nothing again that is stored."""
    message = Message("user", question.content, id=question.id)
    response = await run_tools(manager, session_id, message, [find_order], max_steps=5)
    return {"content": response.content, "position": response.position}


@app.post("/sessions/{session_id}/mood")
async def judge(session_id: str, manager: Manager) -> Mood:
    """Return the mood of the conversation."""
    answer = await send_structured(manager, session_id, "How does the user feel?", Mood)
    return answer.value


@app.exception_handler(SessionNotFoundError)
async def refuse(_: Request, exc: SessionNotFoundError) -> JSONResponse:
    """Answer 404."""
    return JSONResponse({"error": exc.error_code}, 404)


@app.exception_handler(ProviderError)
@app.exception_handler(ToolStepsError)
@app.exception_handler(StructuredOutputError)
async def fail(_: Request, exc: LuminoraCoreSDKError) -> JSONResponse:
    """Answer 502: the model did not do its part. Sending the question again continues."""
    return JSONResponse({"error": exc.error_code}, 502)

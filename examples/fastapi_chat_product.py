"""A chat product: sidebar, pages, edits, forks, feedback, memory; each user reaches only what is their own.

Run it in this folder: ``uvicorn fastapi_chat_product:app --timeout-graceful-shutdown 5``; settings: ``fastapi_app``.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import date
from typing import Annotated, Any, Literal

import fastapi_app
from fastapi import Body, FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi_answers import Answers
from fastapi_users import Own, User
from pydantic import BaseModel

from luminoracore_sdk.utils.exceptions import LuminoraCoreSDKError

TURN: dict[str, Any] = {"busy": "refuse", "on_stop": "keep_partial"}
answers = Answers()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store; stop the answers before it is closed."""
    async with fastapi_app.lifespan(app):
        yield
        await answers.stop_all()


app = FastAPI(
    lifespan=lifespan,
    default_response_class=fastapi_app.AsciiJSONResponse,
    exception_handlers={LuminoraCoreSDKError: fastapi_app.explain, RequestValidationError: fastapi_app.refuse},
)

Place = Annotated[str | int, Body(embed=True)]  # the id of a message, or a position
Cursor = Annotated[str, Query(pattern=r"^\d{1,15}(\.\d{1,15})?$")]
Limit = Annotated[int, Query(ge=1, le=200)]
Number = Annotated[int, Body(embed=True)]
LastEvent = Annotated[str | None, Header(pattern=r"^\d{1,15}(\.\d{1,15})?$")]


class Changes(BaseModel):
    """What users change of a conversation; null removes the title."""

    title: str | None = None
    archived: bool | None = None
    pinned: bool | None = None


class Question(BaseModel):
    """What the user says; sent again with the same id, it returns the stored answer."""

    role: Literal["user"] = "user"
    content: str
    id: str | None = None


@app.post("/conversations", status_code=201)
async def create(user: User) -> str:
    """Begin a conversation; return its id."""
    return await user.create_session(fastapi_app.PERSONALITY, fastapi_app.PROVIDER)


@app.get("/conversations")
async def sidebar(
    user: User, *, archived: bool | None = False, pinned: bool | None = None, cursor: str | None = None
) -> dict[str, Any]:
    """Return a page of conversations, the latest first."""
    return (await user.list_conversations(archived=archived, pinned=pinned, cursor=cursor)).to_dict()


@app.patch("/conversations/{conversation_id}", status_code=204)
async def change(conversation: Own, changes: Changes, user: User) -> None:
    """Rename, pin or archive a conversation."""
    await user.update_session(conversation, **changes.model_dump(exclude_unset=True))


@app.delete("/conversations/{conversation_id}", status_code=204)
async def delete(conversation: Own, user: User) -> None:
    """Delete a conversation."""
    await user.delete_session(conversation)


@app.get("/conversations/{conversation_id}/messages")
async def messages(conversation: Own, user: User, before: int = 2**31, limit: Limit = 50) -> list[dict[str, Any]]:
    """Return the newest messages before a position, oldest first."""
    return [message.to_dict() for message in await user.get_messages(conversation, limit, before=before)]


@app.post("/conversations/{conversation_id}/messages")
async def ask(conversation: Own, question: Question, user: User) -> StreamingResponse:
    """Stream the answer to a question."""
    return await answers.begin(user, conversation, user.stream_message(conversation, question.model_dump(), **TURN))


@app.put("/conversations/{conversation_id}/messages/{message_id}")
async def edit(conversation: Own, message_id: str, question: Question, user: User) -> StreamingResponse:
    """Stream the answer to another question in the place of one."""
    deltas = user.stream_edit_message(conversation, message_id, question.model_dump(), **TURN)
    return await answers.begin(user, conversation, deltas)


@app.post("/conversations/{conversation_id}/messages/{message_id}/regenerate")
async def regenerate(conversation: Own, message_id: str, user: User) -> StreamingResponse:
    """Stream another answer in the place of one."""
    return await answers.begin(user, conversation, user.stream_regenerate(conversation, message_id, **TURN))


@app.post("/conversations/{conversation_id}/stop")
async def stop(conversation: Own, user: User) -> bool:
    """Stop the answer under way, in whichever process, and keep what came of it; return False if there is none."""
    return await user.stop(conversation)


@app.get("/conversations/{conversation_id}/events", response_class=EventSourceResponse)
async def follow(
    conversation: Own, user: User, after: Cursor = "0", last_event_id: LastEvent = None
) -> AsyncIterator[ServerSentEvent]:
    """Send every change; a browser that comes back names the last event it got. FastAPI keeps the connection alive."""
    async with aclosing(user.watch(conversation, after=last_event_id or after)) as changes:
        async for change in changes:
            yield ServerSentEvent(event=change.kind, id=change.cursor, data=change.to_dict())


@app.get("/conversations/{conversation_id}/messages/{message_id}/alternatives")
async def alternatives(conversation: Own, message_id: str, user: User) -> list[list[dict[str, Any]]]:
    """Return what a message has replaced."""
    return [[one.to_dict() for one in branch] for branch in await user.alternatives(conversation, message_id)]


@app.post("/conversations/{conversation_id}/messages/{message_id}/choose", status_code=204)
async def choose(conversation: Own, message_id: str, number: Number, user: User) -> None:
    """Put an alternative back in the place of a message."""
    await user.choose(conversation, message_id, number)


@app.post("/conversations/{conversation_id}/rewind", status_code=204)
async def rewind(conversation: Own, to: Place, user: User) -> None:
    """Remove every message behind one."""
    await user.rewind(conversation, to)


@app.post("/conversations/{conversation_id}/fork", status_code=201)
async def fork(conversation: Own, at: Place, user: User) -> str:
    """Copy a conversation up to a message into a new one; return its id."""
    return await user.fork(conversation, at)


@app.patch("/conversations/{conversation_id}/messages/{message_id}/feedback", status_code=204)
async def feedback(conversation: Own, message_id: str, labels: dict[str, Any], user: User) -> None:
    """Keep what the user thinks of a message."""
    await user.annotate(conversation, message_id, labels)


@app.delete("/conversations/{conversation_id}/messages/{message_id}", status_code=204)
async def redact(conversation: Own, message_id: str, user: User) -> None:
    """Remove the content of a message for good."""
    await user.redact(conversation, message_id)


@app.get("/me/usage")
async def usage(user: User, since: date | None = None, until: date | None = None) -> dict[str, Any]:
    """Return the tokens of the user's conversations."""
    return (await user.usage(since=since, until=until)).to_dict()


@app.get("/me/memories")
async def memories(user: User) -> dict[str, Any]:
    """Return what is remembered for the user."""
    return {entry.key: entry.value for entry in await user.list_entries()}


@app.put("/me/memories/{key}", status_code=204)
async def remember(key: str, value: Annotated[Any, Body(embed=True)], user: User) -> None:
    """Remember something for the user, in every conversation."""
    await user.store_memory(key, value)


@app.delete("/me/memories/{key}", status_code=204)
async def forget(key: str, user: User) -> None:
    """Forget it."""
    await user.delete_memory(key)


@app.get("/me/export")
async def export(user: User, manager: fastapi_app.Manager) -> StreamingResponse:
    """Send everything that is stored of the user, in lines of JSON."""
    return StreamingResponse(manager.export_user(user.user_id, user.tenant), media_type="application/x-ndjson")


@app.delete("/me")
async def erase(user: User, manager: fastapi_app.Manager) -> dict[str, Any]:
    """Delete everything that is stored of the user; return the receipt."""
    return (await manager.erase_user(user.user_id, user.tenant)).to_dict()

"""An agent of the Google ADK, which changes states of session, user and app with every answer."""

# pyright: reportMissingImports=false

from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.errors import StaleSessionError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService
from google.genai.types import Content, Part

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.google_adk import LuminoraSessionService

_services: list[LuminoraSessionService] = []


class FakeModel(BaseLlm):
    """Answers at once."""

    model: str = "fake"

    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> AsyncIterator[LlmResponse]:
        asked = [content.parts[0].text for content in llm_request.contents if content.role == "user"]
        answer = f"after {len(asked) - 1}: {asked[-1]}"
        yield LlmResponse(content=Content(role="model", parts=[Part(text=answer)]))


def count(callback_context: CallbackContext) -> None:
    for key in ("app:turns", "user:turns", "turns"):
        callback_context.state[key] = callback_context.state.get(key, 0) + 1


def runner_of(service: BaseSessionService, **settings: Any) -> Runner:
    agent = LlmAgent(name="agent", model=FakeModel(), output_key="answer", before_agent_callback=count, **settings)
    return Runner(app_name="app", agent=agent, session_service=service)


async def ask(runner: Runner, session_id: str, text: str) -> str:
    """Run the agent once; the session exists."""
    said = Content(role="user", parts=[Part(text=text)])
    answer = ""
    async for event in runner.run_async(user_id="user", session_id=session_id, new_message=said):
        if event.is_final_response() and event.content:
            answer = event.content.parts[0].text
    return answer


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    if not _services:
        _services.append(LuminoraSessionService(store))
    names: Any = {"app_name": "app", "user_id": "user", "session_id": session_id}
    if await _services[0].get_session(**names) is None:
        await _services[0].create_session(**names)
    while True:
        try:
            return await ask(runner_of(_services[0]), session_id, text)
        except StaleSessionError:  # another process was faster
            continue


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    async with LuminoraSessionService(store) as service:
        session = await service.get_session(app_name="app", user_id="user", session_id=session_id)
    events = [] if session is None else session.events
    return [event.content.parts[0].text for event in events if event.content]

"""Google's ADK: ``Runner.run_async`` with DatabaseSessionService and the newest 50 events.

The memories are the session's state, which the agent's instruction names.
"""

from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import APP
from benchmarks.turn_parts.workers.taker import ANSWER, MEMORIES, NEWEST, SYSTEM, TurnTaker, serve

adk: Any = import_module("google.adk.agents")
events: Any = import_module("google.adk.events")
models: Any = import_module("google.adk.models")
run_config: Any = import_module("google.adk.agents.run_config")
runners: Any = import_module("google.adk.runners")
sessions: Any = import_module("google.adk.sessions")
base: Any = import_module("google.adk.sessions.base_session_service")
types: Any = import_module("google.genai.types")

USER, AGENT = "user", "ada"


class Instant(models.BaseLlm):  # type: ignore[misc]
    """A model as ADK's own tests have it."""

    taker: Any

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncIterator[Any]:  # noqa: ARG002, FBT001, FBT002
        self.taker.seen = len(llm_request.contents)
        yield models.LlmResponse(content=types.Content(role="model", parts=[types.Part(text=ANSWER)]))


class DatabaseSessionService(TurnTaker):
    async def open(self) -> None:
        pool = {"pool_size": self.pool_size, "max_overflow": 0}
        url = self.place.replace("postgresql://", "postgresql+asyncpg://")
        if "://" not in url:
            url, pool = f"sqlite+aiosqlite:///{url}", {}
        self._service = sessions.DatabaseSessionService(db_url=url, **pool)
        remembered = "\n".join(f"{name}: {{{name}}}" for name in MEMORIES)
        model = Instant(model="instant", taker=self)
        agent = adk.LlmAgent(name=AGENT, model=model, instruction=f"{SYSTEM}\n{remembered}")
        self._runner = runners.Runner(app_name=APP, agent=agent, session_service=self._service)
        self._config = run_config.RunConfig(get_session_config=base.GetSessionConfig(num_recent_events=NEWEST))

    async def begin(self, session: str, texts: Sequence[str]) -> None:
        made = await self._service.create_session(app_name=APP, user_id=USER, session_id=session, state=MEMORIES)
        for number, text in enumerate(texts):
            role, author = ("model", AGENT) if number % 2 else ("user", USER)
            content = types.Content(role=role, parts=[types.Part(text=text)])
            await self._service.append_event(made, events.Event(author=author, invocation_id="begun", content=content))

    async def turn(self, session: str, text: str) -> str:
        message = types.Content(role="user", parts=[types.Part(text=text)])
        answer = ""
        async for event in self._runner.run_async(
            user_id=USER, session_id=session, new_message=message, run_config=self._config
        ):
            if event.content and event.content.parts:
                answer = event.content.parts[0].text
        return answer

    async def close(self) -> None:
        await self._service.close()


if __name__ == "__main__":
    serve(DatabaseSessionService)

"""An agent of the OpenAI Agents SDK."""

# pyright: reportMissingImports=false

from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.testing import assistant_message

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.openai_agents import LuminoraSession

set_tracing_disabled(disabled=True)


class FakeModel(Model):
    """Answers at once."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:  # noqa: A002
        asked = [item["content"] for item in input if item.get("role") == "user"]
        answer = assistant_message(f"after {len(asked) - 1}: {asked[-1]}")
        return ModelResponse(output=[answer], usage=Usage(), response_id="response")

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError  # the runs of this worker do not stream


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    session = LuminoraSession(session_id, storage=store)
    result = await Runner.run(Agent(name="fake", model=FakeModel()), text, session=session)
    return str(result.final_output)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    items: list[Any] = await LuminoraSession(session_id, storage=store).get_items()
    return [item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in items]

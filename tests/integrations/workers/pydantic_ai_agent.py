"""An agent of Pydantic AI."""

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.pydantic_ai import LuminoraMessageHistory


def answer(messages: list[Any], _: Any) -> ModelResponse:
    asked = [part.content for message in messages for part in message.parts if part.part_kind == "user-prompt"]
    return ModelResponse(parts=[TextPart(f"after {len(asked) - 1}: {asked[-1]}")])


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    history = LuminoraMessageHistory(session_id, storage=store)
    result = await Agent(FunctionModel(answer)).run(text, message_history=await history.load())
    await history.save(result)
    return str(result.output)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    messages: list[Any] = await LuminoraMessageHistory(session_id, storage=store).load()
    return [str(message.parts[0].content) for message in messages]

"""A chain of LangChain with a history."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.langchain import LuminoraChatMessageHistory


def answer(messages: list[Any]) -> AIMessage:
    asked = [message.content for message in messages if isinstance(message, HumanMessage)]
    return AIMessage(f"after {len(asked) - 1}: {asked[-1]}")


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    chain = RunnableWithMessageHistory(
        RunnableLambda(answer), lambda session_id: LuminoraChatMessageHistory(session_id, storage=store)
    )
    config: Any = {"configurable": {"session_id": session_id}}
    result = await chain.ainvoke([HumanMessage(text)], config)
    return str(result.content)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    return [str(message.content) for message in LuminoraChatMessageHistory(session_id, storage=store).messages]

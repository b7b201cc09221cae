"""A chain of LangChain with a history."""

# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.langchain import LuminoraChatMessageHistory


def answer(given: dict[str, Any]) -> AIMessage:
    asked = [message for message in given["history"] if isinstance(message, HumanMessage)]
    return AIMessage(f"after {len(asked)}: {given['input']}")


def chain_of(history_of: Callable[[str], BaseChatMessageHistory]) -> RunnableWithMessageHistory:
    # With a key of its own for the history, a chain does not count stored messages to find out which ones are new.
    return RunnableWithMessageHistory(
        RunnableLambda(answer), history_of, input_messages_key="input", history_messages_key="history"
    )


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    chain = chain_of(lambda session_id: LuminoraChatMessageHistory(session_id, storage=store))
    result = await chain.ainvoke({"input": text}, {"configurable": {"session_id": session_id}})
    return str(result.content)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    return [str(message.content) for message in LuminoraChatMessageHistory(session_id, storage=store).messages]

"""Several processes change the past of one conversation at once, on every backend."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import SessionManager, SessionStorage
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.utils.exceptions import ConflictError, MessageNotFoundError, ValidationError
from tests.support.backends import EMBEDDED, MONGODB, POSTGRES, REDIS, Backend, backend_fixture
from tests.support.scripted_provider import Script

ROUNDS = 8

backend = backend_fixture((*EMBEDDED, POSTGRES, REDIS, MONGODB))


@pytest.fixture
async def managers(
    backend: Backend, open_storage: Callable[[], SessionStorage], services: Services
) -> AsyncIterator[list[SessionManager]]:
    """Managers that share the store only, as in processes of their own."""
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(open_storage()) for _ in range(4)]
        if not backend.persistent:  # wrappers have locks of their own
            storages = [StorageWrapper(storages[0]) for _ in storages]
        yield [await stack.enter_async_context(SessionManager(one, services=services)) for one in storages]


@pytest.mark.parametrize("seed", range(3))
async def test_no_answer_is_lost_and_no_redacted_one_returns(
    managers: list[SessionManager], script: Script, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # not a secret
    script.answers = [f"answer-{number}." for number in range(1000)]
    script.turns = 2
    first = managers[0]
    await first.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
    given = {(await first.send_message("s", f"question-{number}.")).content for number in range(3)}
    redacted, perhaps = set[str](), set[str]()

    async def everything() -> str:
        return json.dumps([one.to_dict() for one in await first.conversation_manager.get_messages("s")])

    async def regenerate(manager: SessionManager) -> None:
        given.add((await manager.regenerate("s")).content)

    async def edit(manager: SessionManager) -> None:
        *_, question, _ = await manager.conversation_manager.get_messages("s")
        answer = await manager.edit_message("s", question.id or "", "edited.")
        assert isinstance(answer, ChatResponse)
        given.add(answer.content)

    async def choose(manager: SessionManager) -> None:
        newest = (await manager.conversation_manager.get_messages("s"))[-1]
        await manager.choose("s", newest.id or "", 0)

    async def annotate(manager: SessionManager) -> None:
        newest = (await manager.conversation_manager.get_messages("s"))[-1]
        await manager.annotate("s", newest.id or "", {"note": chance.random()})

    async def redact(manager: SessionManager) -> None:
        newest = (await manager.conversation_manager.get_messages("s"))[-1]
        await manager.redact("s", newest.id or "")
        if newest.content:
            redacted.add(str(newest.content))
        # its alternatives were redacted too, unless they had passed to another answer
        alternatives = json.dumps(newest.metadata.get("alternatives", []))
        perhaps.update(content for content in given if content in alternatives)

    calls = [regenerate, regenerate, regenerate, edit, choose, choose, annotate, redact]
    for _ in range(ROUNDS):
        running = [chance.choice(calls)(manager) for manager in managers]
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            assert outcome is None or isinstance(outcome, ConflictError | MessageNotFoundError | ValidationError)
        text = await everything()
        assert [one for one in redacted if one in text] == []
        assert [one for one in given - redacted - perhaps if one not in text] == []
    positions = [one.position for one in await first.conversation_manager.get_messages("s")]
    assert positions == list(range(1, len(positions) + 1))

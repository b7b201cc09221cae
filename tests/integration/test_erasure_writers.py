"""An erasure and writers that are under way: what they write is erased or refused, whatever comes first."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.tombstones import TOMBSTONE_LIFETIME
from luminoracore_sdk.session import InMemoryStorage, Message, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    MessageNotFoundError,
    SessionNotFoundError,
    TurnInterruptedError,
)
from tests.support import session_writer
from tests.support.backends import FILES, MEMORY, SQLITE
from tests.support.command import ROOT
from tests.support.killed_clients import CLIENTS, Client
from tests.support.raw_stores import raw_content
from tests.support.unreliable import Unreliable
from tests.support.users import canary, digest_of, fill_user, session_of

REFUSED = (ConflictError, MessageNotFoundError, SessionNotFoundError, TurnInterruptedError)
ADA, WORD = session_of("ada"), canary("ada")

Write = Callable[[SessionManager], Awaitable[Any]]


async def _answer(manager: SessionManager) -> str:
    (*_, newest) = await manager.conversation_manager.get_messages(ADA)
    return newest.id or ""


async def _nothing(_: SessionManager) -> None:
    """Leave a session as it is."""


async def _create_deferred(manager: SessionManager) -> None:
    """Create a session that is not saved."""
    config = {"session_id": f"deferred {WORD}", "user_id": "ada", "auto_save": False}
    await manager.create_session({"name": WORD}, {"name": "echo"}, config)
    await manager.send_message(f"deferred {WORD}", WORD)


async def _change_deferred(manager: SessionManager) -> None:
    """Change a stored session that is saved on demand, in ways that are not saved."""
    session_id = session_of("ada", 1)
    await manager.send_message(session_id, WORD)
    await manager.update_session(session_id, metadata={"title": WORD})
    await manager.memory_manager.store_memory(session_id, WORD, WORD)


@attrs.frozen
class Writer:
    """A call that writes to a session of the user.

    Attributes:
        write: The call.
        prepare: What its manager has done before.
        settings: Those of a second session of the user; None: there is none.
    """

    write: Write
    prepare: Write = _nothing
    settings: dict[str, Any] | None = None


WRITERS = {
    "turn": Writer(lambda one: one.send_message(ADA, WORD)),
    "regenerate": Writer(lambda one: one.regenerate(ADA)),
    "edit": Writer(lambda one: one.edit_message(ADA, f"{WORD}-0", f"{WORD} again")),
    "rewind": Writer(lambda one: one.rewind(ADA, 1)),
    "redact": Writer(lambda one: one.redact(ADA, f"{WORD}-0")),
    "annotate": Writer(lambda one: one.annotate(ADA, f"{WORD}-0", {"more": WORD})),
    "append": Writer(lambda one: one.conversation_manager.append(ADA, [Message("user", WORD)])),
    "add message": Writer(lambda one: one.conversation_manager.add_message(ADA, "user", WORD)),
    "create conversation": Writer(lambda one: one.conversation_manager.create_conversation(ADA)),
    "memory": Writer(lambda one: one.memory_manager.store_memory(ADA, WORD, WORD)),
    "user's memory": Writer(lambda one: one.memory_manager.store_memory(ADA, WORD, WORD, scope="user")),
    "update": Writer(lambda one: one.update_session(ADA, metadata={"title": WORD})),
    "update provider": Writer(lambda one: one.update_provider(ADA, {"name": "echo", "model": WORD})),
    "fork": Writer(lambda one: one.fork(ADA)),
    "empty fork": Writer(lambda one: one.fork(ADA, 0, new_session_id=f"fork {WORD}")),
    "save new": Writer(lambda one: one.save_session(f"deferred {WORD}"), _create_deferred),
    "save": Writer(lambda one: one.save_session(session_of("ada", 1)), _change_deferred, {"auto_save": False}),
    "save expiring": Writer(
        lambda one: one.save_session(session_of("ada", 1)), _change_deferred, {"auto_save": False, "ttl": 60}
    ),
    "defer, save": Writer(
        lambda one: _in_turn(one, _change_deferred, lambda two: two.save_session(session_of("ada", 1))),
        settings={"auto_save": False, "ttl": 60},
    ),
}
"""Every call that writes to a session of the user; not those that create one or name the user."""


async def _in_turn(manager: SessionManager, *writes: Write) -> None:
    for write in writes:
        await write(manager)


class Stops(Unreliable):
    """Awaits something before its nth call.

    Attributes:
        at: The number of the call, from 1; 0: none.
        meanwhile: What is awaited.
        count: The number of calls so far.
    """

    at = 0
    count = 0
    meanwhile: Callable[[], Awaitable[Any]]

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await, then make the call."""
        self.count += 1
        if self.count == self.at:
            await self.meanwhile()
        return await super().meet(name, call)

    @property
    def is_reached(self) -> bool:
        """Whether the call was made."""
        return 0 < self.at <= self.count


async def store_second(manager: SessionManager, settings: dict[str, Any]) -> None:
    """Store a second session of the user."""
    ids = {"session_id": session_of("ada", 1), "user_id": "ada"}
    await manager.create_session({"name": WORD}, {"name": "echo"}, {**ids, **settings})
    await manager.send_message(session_of("ada", 1), WORD)
    await manager.save_session(session_of("ada", 1))


@attrs.define
class Race:
    """A write that stops before one of its calls, until an erasure that began then has come to one of its own."""

    base: SessionStorage
    services: Services
    writer: Writer

    async def run(self, write_at: int, erase_at: int) -> tuple[bool, bool]:
        """Return whether both came so far."""
        async with SessionManager(self.base, services=self.services) as manager:
            await fill_user(manager, "ada", turns=1)
            if self.writer.settings is not None:
                await store_second(manager, self.writer.settings)
        writes, erases = Stops(self.base), Stops(self.base)
        stopped, goes_on = asyncio.Event(), asyncio.Event()
        async with (
            SessionManager(writes, services=self.services) as writing,
            SessionManager(erases, services=self.services) as erasing,
        ):
            await self.writer.prepare(writing)

            async def write() -> None:
                with suppress(*REFUSED):
                    await self.writer.write(writing)
                stopped.set()

            async def stop() -> None:
                stopped.set()
                await goes_on.wait()

            async def let_write() -> None:
                goes_on.set()
                await running

            writes.count, writes.at, writes.meanwhile = 0, write_at, stop
            running = asyncio.create_task(write())
            await stopped.wait()
            erases.count, erases.at, erases.meanwhile = 0, erase_at, let_write
            receipt = await erasing.erase_user("ada")
            await let_write()
            assert receipt.verified is True
        return writes.is_reached, erases.is_reached


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
async def test_what_is_written_meanwhile_is_erased_or_refused(
    writer: Writer, tmp_path: Path, clock: ManualClock, services: Services
) -> None:
    write_at, is_write_reached, moments = 0, True, 0
    while is_write_reached:
        write_at += 1
        erase_at, is_erase_reached = 0, True
        while is_erase_reached:
            erase_at += 1
            base = InMemoryStorage(clock=clock)
            is_write_reached, is_erase_reached = await Race(base, services, writer).run(write_at, erase_at)
            left = await raw_content(MEMORY, tmp_path, base)
            assert WORD.encode() not in left, (write_at, erase_at)
            moments += 1
    assert moments > 20


@pytest.mark.parametrize("ttl", [None, 60])
async def test_changes_made_during_an_erasure_are_not_saved_behind_it(
    ttl: float | None, tmp_path: Path, clock: ManualClock, services: Services
) -> None:
    erase_at, is_reached, made = 0, True, 0
    while is_reached:
        erase_at += 1
        base = InMemoryStorage(clock=clock)
        erases = Stops(base)
        async with (
            SessionManager(base, services=services) as writing,
            SessionManager(erases, services=services) as erasing,
        ):
            async with SessionManager(base, services=services) as manager:
                await store_second(manager, {"auto_save": False, "ttl": ttl})
            changed = False

            async def change(manager: SessionManager = writing) -> None:
                nonlocal changed
                with suppress(SessionNotFoundError):
                    await _change_deferred(manager)
                    changed = True

            erases.at, erases.meanwhile = erase_at, change
            assert (await erasing.erase_user("ada")).verified is True
            assert await writing.get_session(session_of("ada", 1)) is None or changed
            assert await writing.save_session(session_of("ada", 1)) is False
            assert await writing.get_session(session_of("ada", 1)) is None
            assert WORD.encode() not in await raw_content(MEMORY, tmp_path, base), erase_at
        is_reached = erases.is_reached
        made += changed
    assert made > 2


async def test_what_is_saved_behind_an_erasure_of_another_user_is_kept(clock: ManualClock, services: Services) -> None:
    base = InMemoryStorage(clock=clock)
    async with SessionManager(base, services=services) as writing, SessionManager(base, services=services) as erasing:
        await store_second(writing, {"auto_save": False, "ttl": 60})
        await _create_deferred(writing)
        clock.advance(40)
        await _change_deferred(writing)
        await erasing.erase_user("bob")
        clock.advance(30)  # it has expired below and not here
        assert await writing.save_session(session_of("ada", 1)) is True
        assert await writing.save_session(f"deferred {WORD}") is True
        assert sorted(await erasing.list_sessions()) == [f"deferred {WORD}", session_of("ada", 1)]


async def test_an_erased_id_can_be_used_again(clock: ManualClock, services: Services) -> None:
    base = InMemoryStorage(clock=clock)
    async with SessionManager(base, services=services) as manager:
        await fill_user(manager, "ada")
        await manager.erase_user("ada")
        with pytest.raises(SessionNotFoundError):
            await manager.conversation_manager.add_message(ADA, "user", WORD)
        await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": ADA, "user_id": "ada"})
        await manager.send_message(ADA, "hello")
        assert len(await manager.conversation_manager.create_conversation(ADA)) == 2
        await manager.memory_manager.store_memory(ADA, "k", 1, scope="user")
        await manager.fork(ADA, new_session_id="fork")
        assert sorted(await manager.list_sessions(user_id="ada")) == ["fork", ADA]
        await manager.delete_session(ADA)
        clock.advance(TOMBSTONE_LIFETIME.total_seconds())
        await manager.conversation_manager.add_message(ADA, "user", "a day later")
        assert await manager.conversation_manager.get_message_count(ADA) == 1


@asynccontextmanager
async def writer_of(client: Client, place: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a process that writes to three sessions of the user, and wait until it has."""
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, session_writer.__file__, client.factory, place, "ada", "3"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"writing\n"
        yield writer
    finally:
        if writer.returncode is None:
            writer.kill()
            await writer.wait()


@pytest.mark.parametrize(
    "name",
    [
        *("sqlite", "files"),
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("postgres", "redis", "mongodb")),
    ],
)
async def test_a_process_that_keeps_on_writing_brings_nothing_back(tmp_path: Path, name: str) -> None:
    client, path = CLIENTS[name], tmp_path / "store"
    backend = client.backend or {"files": FILES, "sqlite": SQLITE}[name]
    place = client.place(path)
    try:
        async with client.storage(place) as storage, SessionManager(storage) as manager:
            await fill_user(manager, "ada", sessions=3, turns=1)
            await fill_user(manager, "bob", turns=1)
            bob = await digest_of(storage, "bob")
            settings = {"session_id": session_of("ada", 3), "user_id": "ada", "auto_save": False, "ttl": 600}
            await manager.create_session({"name": WORD}, {"name": "echo"}, settings)
            await manager.save_session(session_of("ada", 3))
            async with writer_of(client, place) as writer:
                receipt = await manager.erase_user("ada")
                async with asyncio.timeout(60):
                    said, _ = await writer.communicate(b"")  # which ends its input
            counts = json.loads(said)
            assert receipt.verified is True
            assert receipt.sessions >= 4
            assert counts["done"] >= 9 * 3
            assert counts["refused"] > 0
            assert counts["saved"] == [False, False]
            assert await manager.list_sessions() == [session_of("bob")]
            assert await digest_of(storage, "bob") == bob
        assert WORD.encode() not in await raw_content(backend, path, storage)
    finally:
        client.clear(path)

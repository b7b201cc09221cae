#!/usr/bin/env python3
"""Import a real corpus, talk, be killed in mid-turn, resume: nothing lost, no half turn.

Run by ``make demo``. Needs no network and no key. Every claim is checked; the exit code is 1 if one fails.
"""

import argparse
import asyncio
import hashlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
from parts.corpus import ChatRepl, spread_over_languages, version
from parts.figures import folder_table, sqlite_table
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.export_import import SessionExchange
from luminoracore_sdk.application.exchange.formats import SessionParser
from luminoracore_sdk.application.exchange.raw_json import read_json
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.session import Message, SessionManager, create_storage

ECHO: JSONObject = {
    "name": "echo",
    "extra": {"delay": 0.12},
}  # seconds before each word: time to die
FACTS: JSONObject = {"name": "Ada", "likes": ["chess", "long walks"], "born": 1815}
LOST = "This question is asked by a process that will not live to hear the whole of the answer to it."
KEPT = "Where were we before the power went?"
WORDS_BEFORE_THE_KILL = 5

out = Console(highlight=False)


@attrs.define
class Claims:
    """What the demonstration claims, and whether all of it held."""

    failed: int = 0

    def check(self, claim: str, *, holds: bool) -> None:
        """Show a claim and whether it holds."""
        self.failed += not holds
        out.print(f"  [green]✓[/] {claim}" if holds else f"  [red]✗ not so: {claim}[/]")


def step(title: str) -> None:
    """Begin a part of the story."""
    out.print(f"\n[bold cyan]{title}[/]")


async def import_corpus(storage: SessionStorage, talks: list[ChatRepl]) -> dict[str, ChatRepl]:
    """Make a session of every conversation; returns them by session id."""
    manager = SessionManager(storage)
    imported: dict[str, ChatRepl] = {}
    for talk in track(talks, description="  importing", console=out):
        session_id = await manager.create_session(
            personality={"name": f"ChatterBot ({talk.language})"},
            provider_config=ECHO,
            session_config={"tags": [f"language:{talk.language}", f"category:{talk.category}"]},
        )
        roles = ("user", "assistant")
        messages = [Message(roles[number % 2], line) for number, line in enumerate(talk.lines)]
        await manager.conversation_manager.append(session_id, messages)
        imported[session_id] = talk
    return imported


async def holds_corpus(storage: SessionStorage, imported: dict[str, ChatRepl]) -> bool:
    """Read everything back and compare it, letter by letter."""
    manager = SessionManager(storage)
    for session_id, talk in imported.items():
        messages = manager.conversation_manager.stream_messages(session_id)
        if [message.content async for message in messages] != list(talk.lines):
            return False
    return await manager.list_sessions() == list(imported)


def take_turn(store: str, session_id: str, text: str, *, kill_after: int | None = None) -> tuple[str, int]:
    """Take a turn in a new process; returns what it said and how it ended.

    Args:
        store: URL.
        session_id: The session to go on with.
        text: What the user says.
        kill_after: Words of the answer after which the process gets SIGKILL; None: it may finish.
    """
    script = Path(__file__).with_name("parts") / "talk.py"
    out.print(f"  you> {escape(text)}\n  bot> ", end="")
    command = [sys.executable, str(script), store, session_id, text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:  # noqa: S603
        said = b""
        while chunk := process.stdout.read(4096) if process.stdout else b"":
            said += chunk
            out.print(escape(chunk.decode()), end="")
            if kill_after is not None and len(said.split()) >= kill_after:
                process.send_signal(signal.SIGKILL)
                break
    out.print()
    return said.decode(), process.returncode


async def show_conversation(storage: SessionStorage, session_id: str) -> list[Message]:
    """Print the last messages of a conversation; returns all."""
    manager = SessionManager(storage)
    messages = [message async for message in manager.conversation_manager.stream_messages(session_id)]
    for message in messages[-6:]:
        out.print(f"  [dim]{message.position:3}[/] {message.role:9} {escape(str(message.content))}")
    return messages


async def recall(storage: SessionStorage, session_id: str) -> JSONObject:
    """Print what is remembered of a session and return it."""
    memory = SessionManager(storage).memory_manager
    remembered = {entry.key: entry.value for entry in await memory.list_entries(session_id)}
    for key, value in remembered.items():
        out.print(f"  remembers {key}: {value}")
    return remembered


def exchange_over(storage: SessionStorage) -> SessionExchange:
    """Return export and import over a store."""
    return SessionExchange(storage=storage, services=default_services(), values=JsonCodec())


async def exported(storage: SessionStorage, session_id: str) -> str:
    """Return a session as one line of JSON."""
    return "".join([piece async for piece in exchange_over(storage).export_session(session_id)])


async def copy_session(line: str, session_id: str, folder: Path) -> str:
    """Import a line into a store of JSON files; returns what that store exports again."""
    reader = SessionParser(services=default_services(), values=JsonCodec(), provider=ECHO)
    async with create_storage(f"file://{folder}") as files:
        await exchange_over(files).import_session(reader.read_line(read_json(line)))
        return await exported(files, session_id)


def _fitness(talk: ChatRepl) -> tuple[bool, int]:
    """Rank a conversation: best is a long one that ends with an answer, so that the user is next."""
    return len(talk.lines) % 2 == 0, len(talk.lines)


async def begin(store: str, talks: list[ChatRepl], claims: Claims) -> tuple[str, int]:
    """Import, and store some facts of one session; returns its id and its length."""
    languages = len({talk.language for talk in talks})
    step(f"1. Import {len(talks):,} conversations of {version()}, in {languages} languages, into SQLite")
    async with create_storage(store) as storage:
        imported = await import_corpus(storage, talks)
        held = await holds_corpus(storage, imported)
        claims.check(f"{len(imported):,} sessions read back, equal to the last letter", holds=held)
        claims.check(f"{languages} languages, at least 4", holds=languages >= 4)
        english = [key for key, talk in imported.items() if talk.language == "english"]
        chosen = max(english, key=lambda key: _fitness(imported[key]))
        memory = SessionManager(storage).memory_manager
        for key, value in FACTS.items():
            await memory.store_memory(chosen, key, value)
    return chosen, len(imported[chosen].lines)


async def resume(store: str, session_id: str, before: int, claims: Claims) -> str:
    """Look at what the killed and the resumed process left; returns the session as a line of JSON."""
    async with create_storage(store) as storage:
        messages = await show_conversation(storage, session_id)
        contents = [message.content for message in messages]
        claims.check("nothing of the killed turn is there, neither question nor answer", holds=LOST not in contents)
        whole = contents[before:] == [KEPT, f"You said: {KEPT}"]
        claims.check(f"all {before} messages from before, then one whole turn", holds=whole)
        positions = [message.position for message in messages]
        claims.check("positions without a gap", holds=positions == list(range(1, before + 3)))
        claims.check("the memory is kept", holds=await recall(storage, session_id) == FACTS)
        return await exported(storage, session_id)


def run(folder: Path, sessions: int) -> int:
    """Tell the whole story in an empty folder; returns the exit code."""
    claims, file = Claims(), folder / "sessions.db"
    store = f"sqlite:///{file}"
    talks = spread_over_languages(sessions)
    session_id, before = asyncio.run(begin(store, talks, claims))

    step("2. Go on with one of them in another process, and kill that with SIGKILL in mid-turn")
    said, code = take_turn(store, session_id, LOST, kill_after=WORDS_BEFORE_THE_KILL)
    killed = code == -signal.SIGKILL and said != f"You said: {LOST}"
    claims.check(f"killed by signal 9 after {len(said.split())} words of the answer", holds=killed)

    step("3. Resume in a new process")
    said, code = take_turn(store, session_id, KEPT)
    claims.check("it answers in full", holds=(said, code) == (f"You said: {KEPT}", 0))

    step("4. The conversation and the memory, as a third process finds them")
    line = asyncio.run(resume(store, session_id, before, claims))

    step("5. What is stored where")
    out.print(sqlite_table(file))
    copy = asyncio.run(copy_session(line, session_id, folder / "files"))
    out.print("  The same session in a store of JSON files:")
    out.print(folder_table(folder / "files"))
    digest = hashlib.sha256(line.encode()).hexdigest()[:16]
    claims.check(f"both stores export the same line, SHA-256 {digest}…", holds=copy == line)
    out.print(f"\n[red]{claims.failed} claims failed[/]" if claims.failed else "\n[green]Every claim holds.[/]")
    return 1 if claims.failed else 0


def main() -> int:
    """Read the command line and run in a fresh folder, which is removed afterwards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1000, help="conversations to import (1000)")
    sessions = parser.parse_args().sessions
    with tempfile.TemporaryDirectory(prefix="luminora-demo-") as folder:
        return run(Path(folder), sessions)


if __name__ == "__main__":
    sys.exit(main())

"""Two processes on one store, files that are no store, and a full disk."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.session import (
    ConversationManager,
    JSONFileStorage,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
    create_storage,
)
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    CorruptRecordError,
    SchemaVersionError,
)

ROOT = Path(__file__).parents[2]
ADA = {"name": "Ada"}
ECHO = {"name": "echo"}


async def said(storage: SessionStorage, session_id: str = "s") -> list[Any]:
    return [message.content for message in await ConversationManager(storage=storage).get_messages(session_id)]


_WRITER = """
import asyncio, sys
from luminoracore_sdk.session import SessionManager, create_storage

async def main(url, name):
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        for number in range(25):
            await manager.send_message("s", f"{name}{number}")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("scheme", ["file://", "sqlite:///"])
async def test_two_processes_share_one_session(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path}/store"
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        await manager.create_session(ADA, ECHO, {"session_id": "s"})
    await asyncio.gather(*(asyncio.to_thread(run, _WRITER, url, name) for name in "ab"))
    async with create_storage(url) as storage:
        contents = await said(storage)
    questions = contents[::2]
    assert contents[1::2] == [f"You said: {question}" for question in questions]
    for name in "ab":
        own = [question for question in questions if question.startswith(name)]
        assert own == [f"{name}{number}" for number in range(25)]
    assert len(questions) == 50


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    storage = SQLiteStorage(path)
    with pytest.raises((CorruptRecordError, SchemaVersionError), match=r"store\.db"):
        await storage.list_sessions()
    await storage.close()
    assert path.read_bytes() == content


async def test_a_folder_is_no_database_and_a_file_no_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text('{"sessions": {}}')
    with pytest.raises(ConfigurationError, match="is a folder"):
        await SQLiteStorage(tmp_path / "folder").open()
    with pytest.raises(ConfigurationError, match=r"is a file; a store of JSON files is a folder.*import"):
        await JSONFileStorage(tmp_path / "file").open()
    assert (tmp_path / "file").read_text() == '{"sessions": {}}'


_FULL_DISK = """
import asyncio, resource, sys
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.utils.exceptions import StorageUnavailableError

async def main(url, limit):
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"session_id": "s"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        kept = []
        for number in range(10_000):
            try:
                await manager.send_message("s", f"{number}".zfill(1000))
            except StorageUnavailableError as exc:
                print(type(exc).__name__)
                break
            kept.append(number)
        said = await manager.conversation_manager.get_messages("s", limit=100_000)
        assert [int(message.content) for message in said[::2]] == kept, said
        assert len(said) == 2 * len(kept) > 0

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("scheme", "error"), [("file://", "StorageFullError"), ("sqlite:///", "StorageUnavailableError")]
)
def test_a_full_disk_refuses_the_turn_and_keeps_the_rest(tmp_path: Path, scheme: str, error: str) -> None:
    # A limit on the file size replaces a full disk, which would need a mount. SQLite reports the limit as
    # an I/O error, not as a full disk.
    done = run(_FULL_DISK, f"{scheme}{tmp_path}/store", "200000")
    assert done == f"{error}\n"
    assert run(_COUNT, f"{scheme}{tmp_path}/store") == "whole turns\n"


_COUNT = """
import asyncio, sys
from luminoracore_sdk.session import ConversationManager, create_storage

async def main(url):
    async with create_storage(url) as storage:
        conversations = ConversationManager(storage=storage)
        count = await conversations.get_message_count("s")
        said = await conversations.get_messages("s", limit=count)
        roles = [str(message.role) for message in said]
        print("whole turns" if roles == ["user", "assistant"] * (count // 2) and count else roles)

asyncio.run(main(*sys.argv[1:]))
"""


def run(source: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout

"""``luminora sessions import`` of what other products write: archives, encodings, interrupted and large imports."""

import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from luminoracore_sdk.domain.json_value import JSONObject
from tests.support.command import Luminora, luminora_over, process
from tests.support.exchange import chatgpt_conversation, chatgpt_node

CHAT = {"messages": [{"role": "user", "content": "hi é"}]}


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    return luminora_over(f"sqlite:///{tmp_path / 'store.db'}")


def trip() -> JSONObject:
    return chatgpt_conversation(
        chatgpt_node("a", "root", "user", "Where to?"),
        chatgpt_node("old", "a", "assistant", "Rome."),
        chatgpt_node("b", "a", "assistant", "Turin."),
    )


def archive(path: Path, **files: object) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(f"export/{name}.json", json.dumps(content))
    return path


def test_a_zip_archive_is_imported_with_its_branches(luminora: Luminora, tmp_path: Path) -> None:
    path = archive(tmp_path / "export.zip", user={"id": 1}, conversations=[trip()])
    done = luminora("sessions", "import", path)
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, "imported 2 sessions, 4 messages, 0 memories")
    shown = json.loads(luminora("sessions", "show", "c1", "--json").stdout)
    assert shown["config"]["title"] == "Trip"
    assert [message["content"] for message in shown["messages"]] == ["Where to?", "Turin."]
    again = json.loads(luminora("sessions", "import", path, "--json").stdout)
    assert (again["sessions"], len(again["skipped"]), again["messages"]) == (0, 2, 0)


def test_an_archive_from_stdin_and_in_parts_is_imported(luminora: Luminora, tmp_path: Path) -> None:
    parts = {"conversations-000": [trip()], "conversations-001": [{**trip(), "conversation_id": "c2"}]}
    path = archive(tmp_path / "export.zip", **parts)
    done = luminora("sessions", "import", "-", "--json", stdin=path.read_bytes())
    assert (done.exit_code, json.loads(done.stdout)["sessions"]) == (0, 4)


def test_an_archive_that_is_no_export_is_refused(luminora: Luminora, tmp_path: Path) -> None:
    path = archive(tmp_path / "other.zip", user={})
    done = luminora("sessions", "import", path)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        1,
        f"luminora: {path}: the ZIP archive has no conversations.json",
    )


def test_a_damaged_archive_is_refused(luminora: Luminora, tmp_path: Path) -> None:
    path = archive(tmp_path / "export.zip", conversations=[trip()] * 20)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:120] + b"\xff" * 40 + whole[160:]):
        path.write_bytes(damaged)
        done = luminora("sessions", "import", path)
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-1].startswith(f"luminora: {path}: a ZIP archive that cannot be read: ")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_of_another_compression_is_refused(luminora: Luminora, tmp_path: Path, method: int) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("conversations.json", json.dumps([trip()]))
    whole = path.read_bytes()
    path.write_bytes(whole[:70] + b"\xff" * 40 + whole[110:])
    done = luminora("sessions", "import", path)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"luminora: {path}: a ZIP archive that cannot be read: ")


def test_an_encrypted_archive_is_refused(luminora: Luminora, tmp_path: Path) -> None:
    path = archive(tmp_path / "export.zip", conversations=[trip()])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(data)
    done = luminora("sessions", "import", path)
    assert done.stderr.splitlines()[-1] == f"luminora: {path}/export/conversations.json: is encrypted"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("indent", [None, 2])
def test_every_encoding_and_layout_is_imported(
    luminora: Luminora, tmp_path: Path, encoding: str, indent: int | None
) -> None:
    file = tmp_path / "chats.json"
    file.write_text(json.dumps([CHAT, CHAT], indent=indent, ensure_ascii=False), encoding)
    assert luminora("sessions", "import", file).stderr.startswith("imported 2 sessions, 2 messages")
    assert '"content":"hi é"' in luminora("sessions", "export").stdout


def test_the_same_key_twice_is_refused_with_its_place(luminora: Luminora, tmp_path: Path) -> None:
    file = tmp_path / "twice.json"
    file.write_text('[\n{"messages": [{"role": "user", "role": "system", "content": "x"}]}]')
    done = luminora("sessions", "import", file)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"luminora: {file}:2: conversation 1: messages[0]: the key 'role' occurs twice in one object"
    )


def test_a_format_can_be_named(luminora: Luminora, tmp_path: Path) -> None:
    file = tmp_path / "items.json"
    file.write_text(json.dumps([{"role": "user", "content": "hi"}]))
    assert luminora("sessions", "import", file, "--format", "openai-agents").exit_code == 0
    assert luminora("sessions", "import", file, "--format", "chatgpt").exit_code == 1
    assert luminora("sessions", "import", file, "--format", "nothing").exit_code == 2


# -- killed ----------------------------------------------------------------------------------------

KILLS = """
import os, signal
from luminoracore_sdk.adapters.storage.sqlite.storage import SQLiteStorage

append, left = SQLiteStorage.append_messages, [{calls}]

async def counted(self, *arguments, **options):
    left[0] -= 1
    if left[0] == 0 and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    receipt = await append(self, *arguments, **options)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return receipt

SQLiteStorage.append_messages = counted
"""


def long_conversation() -> JSONObject:
    """Return a conversation that takes several appends."""
    nodes = [chatgpt_node(f"n{i}", f"n{i - 1}" if i else "root", "user", "x" * 50_000) for i in range(12)]
    return chatgpt_conversation(*nodes, conversation_id="long")


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("before", [True, False])
def test_an_import_that_was_killed_can_be_repeated(tmp_path: Path, calls: int, before: bool) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([trip(), long_conversation(), CHAT, {**trip(), "conversation_id": "last"}]))
    killed, whole = (f"sqlite:///{tmp_path / name}.db" for name in ("killed", "whole"))
    command = ("sessions", "import", str(file))
    died = process(tmp_path, *command, code=KILLS.format(calls=calls, before=before), LUMINORA_STORE=killed)
    assert died.returncode == -9
    assert luminora_over(killed)(*command).exit_code == luminora_over(whole)(*command).exit_code == 0
    stores = []
    for store in (killed, whole):
        lines = [json.loads(line) for line in luminora_over(store)("sessions", "export").stdout.splitlines()]
        for line in lines:
            if "messages" in line and line["messages"][0]["content"] == CHAT["messages"][0]["content"]:
                del line["created_at"], line["messages"][0]["timestamp"]  # of the import: the file has none
        stores.append(lines)
    assert stores[0] == stores[1]
    assert [len(line["messages"]) for line in stores[0]] == [2, 2, 2, 2, 12, 1]


# -- memory ----------------------------------------------------------------------------------------


def write_export(path: Path, size: int, largest: int) -> int:
    """Write an export of ChatGPT of about this size, with one conversation as large as ``largest``; return its size."""
    chance = random.Random(5)  # noqa: S311  # text to import
    words = ["the", "of", "and", "a", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are"]
    biggest = written = number = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        while written < size:
            conversation = f"export-{number}"
            nodes = [
                chatgpt_node(
                    f"{conversation}-{place}",
                    f"{conversation}-{place - 1}" if place else "root",
                    "assistant" if place % 2 else "user",
                    " ".join(chance.choices(words, k=chance.randint(60, 500))) + " 😀",
                    status="finished_successfully",
                    metadata={"model_slug": "gpt-4o", "message_type": "next", "citations": []},
                )
                for place in range(largest // 1_500 if number == 2 else chance.randint(2, 60))
            ]
            text = json.dumps(chatgpt_conversation(*nodes, conversation_id=conversation), ensure_ascii=False)
            file.write(f"{',' if number else ''}{text}")
            count = len(text.encode())
            biggest, written, number = max(biggest, count), written + count, number + 1
        file.write("]")
    return biggest


def test_memory_is_below_four_times_the_largest_conversation(luminora: Luminora, tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    largest = write_export(file, 5_000_000, 2_500_000)
    luminora("sessions", "import", archive(tmp_path / "first.zip", conversations=[trip()]))  # imports modules
    tracemalloc.start()
    try:
        done = luminora("sessions", "import", file)
        assert done.exit_code == 0, done.stderr
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * largest, peak / largest


RESIDENT = """
import atexit, resource
from typer.testing import CliRunner
from luminoracore_sdk.cli.app import app
CliRunner().invoke(app, ["sessions", "import", {first!r}])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
atexit.register(lambda: print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
"""


@pytest.mark.nightly
@pytest.mark.parametrize("largest", [1_000_000, 20_000_000])
def test_a_large_export_is_imported_in_little_memory(tmp_path: Path, largest: int) -> None:
    file = tmp_path / "conversations.json"
    largest = write_export(file, 200_000_000, largest)
    first = str(archive(tmp_path / "first.zip", conversations=[trip()]))
    done = process(
        tmp_path,
        *("sessions", "import", str(file)),
        code=RESIDENT.format(first=first),
        timeout=600,
        LUMINORA_STORE=f"sqlite:///{tmp_path / 'store.db'}",
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.splitlines()[-1])
    assert grown < 4 * max(largest, 4_000_000), grown / largest  # SQLite's page cache alone is 2 MB

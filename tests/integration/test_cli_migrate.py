"""``luminora migrate``: makes tables, leaves what is up to date, says where there is nothing to do."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.command import luminora_over


def test_migrate_creates_tables_and_shows_both_versions(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path / 's.db'}")
    first, second = luminora("migrate"), luminora("migrate")
    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr == "schema version: no tables before, 1 now\n"
    assert (second.exit_code, second.stderr) == (0, "schema version 1 is current; nothing was changed\n")
    assert luminora("sessions", "list").stderr == "no sessions\n"


def test_a_database_without_our_tables_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as others:
        others.execute("CREATE TABLE theirs (x)")
    others.close()
    luminora = luminora_over(f"sqlite:///{path}")
    assert luminora("sessions", "list").exit_code == 1
    done = luminora("migrate", "--json")
    assert json.loads(done.stdout) == {"store": f"sqlite: {path}", "before": "no tables", "after": 1}
    assert luminora("sessions", "list").exit_code == 0


def test_tables_of_another_version_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    luminora = luminora_over(f"sqlite:///{path}")
    luminora("migrate")
    with sqlite3.connect(path) as changed:
        changed.execute("UPDATE luminora_version SET version_num = '7'")
    changed.close()
    done = luminora("migrate")
    assert done.exit_code == 1
    assert "sqlite storage has schema version 7; this package works with schema version 1: " in done.stderr


@pytest.mark.parametrize("url", ["file://{}/files", "memory://"])
def test_a_store_without_tables_has_nothing_to_bring_up_to_date(tmp_path: Path, url: str) -> None:
    luminora = luminora_over(url.format(tmp_path))
    luminora("chat", "hi")
    done = luminora("migrate")
    kind = "json" if url.startswith("file") else "memory"
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"a {kind} store has no tables to migrate; its layout is at version 1\n"


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert luminora_over(f"file://{tmp_path / 'none'}")("migrate").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_storage_with_its_own_migration_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PostgreSQLStorage has one; here it is SQLite that gets it."""
    from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage

    async def migrate(self: SQLiteStorage) -> int:
        await self.open()
        return await self.schema_version() + 41

    monkeypatch.setattr(SQLiteStorage, "migrate", migrate, raising=False)
    done = luminora_over(f"sqlite:///{tmp_path / 's.db'}")(
        "migrate",
        LUMINORA_STORAGE_COMPRESSION_ENABLED="1",
        LUMINORA_STORAGE_ENCRYPTION_ENABLED="1",
        LUMINORA_STORAGE_ENCRYPTION_REQUIRED="1",
        LUMINORA_STORAGE_RETRY_ATTEMPTS="3",
    )
    assert done.stderr == "schema version: no tables before, 42 now\n"


def test_migrate_ignores_auto_create_tables_of_the_environment(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path / 's.db'}")
    service = {"LUMINORA_STORAGE_AUTO_CREATE_TABLES": "0", "LUMINORA_STORAGE_RETRY_ATTEMPTS": "3"}
    assert luminora("migrate", **service).stderr == "schema version: no tables before, 1 now\n"

"""The peers' benchmark, without the peers: rows are merged, rendered and put into their place."""

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.peer_parts import link
from benchmarks.peer_parts.catalogue import CASES, Case
from benchmarks.peer_parts.environments import OURS, REQUIREMENTS, PeerUnavailableError
from benchmarks.peer_parts.kept import Outcome, merged, read_outcomes, results_of, write_outcomes
from benchmarks.peer_parts.pins import system_of, versions_of
from benchmarks.peer_parts.report import placed, report
from benchmarks.peer_parts.trial import WRITERS
from benchmarks.peer_parts.workers.peer import Peer, Worker
from benchmarks.speed_parts.results import FLOOR, Result

ADK = next(case for case in CASES if case.peer == "google-adk" and case.backend == "postgres")
AGENTS = next(case for case in CASES if case.store == "SQLAlchemySession")
FILES = next(case for case in CASES if case.store == "FileSessionManager")
WORKS = ("append-300", "newest-300", "all-300", f"writers-{WRITERS}")


def outcome(case: Case, *, peer_ms: float, floor_ms: float = 0.5, n: int = 300) -> Outcome:
    rows = []
    for system, layer, ms in ((system_of(case.peer), case.store, peer_ms), (FLOOR, FLOOR, floor_ms)):
        for work in WORKS:
            row = {"system": system, "backend": case.backend, "layer": layer, "work": work, "n": n}
            figures = {"p50_ms": ms, "p99_ms": 2 * ms, "ops_per_s": 1000 / ms, "growth": 1.5}
            rows.append(Result(**json.loads(json.dumps(row | figures)), versions=f"{layer} 1"))
    return Outcome(results=tuple(rows))


def test_every_store_has_a_worker_and_requirements_that_pin_each_version_and_name_no_address() -> None:
    for case in CASES:
        if case.peer == OURS:
            continue
        lines = (REQUIREMENTS / f"{case.peer}.txt").read_text("utf-8").splitlines()
        assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", line) for line in lines)
        worker = Path(sys.modules[Worker.__module__].__file__ or "").parent / f"{case.peer.replace('-', '_')}.py"
        assert f"class {case.store}(" in worker.read_text("utf-8")


def test_versions_are_those_of_the_requirements() -> None:
    assert re.fullmatch(r"openai-agents \d+\.\d+\.\d+", system_of("openai-agents"))
    assert versions_of("openai-agents").startswith(f"{system_of('openai-agents')}, aiosqlite ")


def test_what_is_measured_anew_takes_the_place_of_the_old_and_the_rest_stays() -> None:
    old = {"no longer there": Outcome(), ADK.name: outcome(ADK, peer_ms=4), AGENTS.name: Outcome(reason="x")}
    new = {AGENTS.name: outcome(AGENTS, peer_ms=2)}

    assert list(merged(old, new)) == [AGENTS.name, ADK.name]
    assert merged(old, new)[AGENTS.name].results[0].p50_ms == 2
    assert merged(old, new)[ADK.name] == old[ADK.name]


def test_outcomes_are_read_as_they_were_written_but_not_those_of_another_machine(tmp_path: Path) -> None:
    outcomes = {AGENTS.name: outcome(AGENTS, peer_ms=2), ADK.name: Outcome(reason="not installed")}

    write_outcomes(tmp_path / "new" / "kept.json", outcomes, "2 cores")

    assert read_outcomes(tmp_path / "new" / "kept.json", "2 cores") == outcomes
    assert read_outcomes(tmp_path / "new" / "kept.json", "8 cores") == {}
    assert read_outcomes(tmp_path / "missing.json", "2 cores") == {}


def test_each_store_is_compared_with_the_floor_of_its_own_run() -> None:
    outcomes = [outcome(AGENTS, peer_ms=2, floor_ms=0.5), outcome(ADK, peer_ms=6, floor_ms=1)]

    assert [one.run for one in results_of(outcomes)] == [1] * 8 + [2] * 8

    text = report({AGENTS.name: outcomes[0], ADK.name: outcomes[1]}, [300], "2 cores")

    floor, agents, adk = text.splitlines()[2:5]
    assert floor.startswith("| **PostgreSQL**, raw driver | 0.75 | 1.50 | 1.00 | 1.50 | 0.75 | 1.00 |")
    assert floor.endswith("| 1,500 | 1.00 |")
    assert agents.startswith("| openai-agents SQLAlchemySession | 2.00 | 4.00 | 4.00 | 1.50 | 2.00 | 4.00 |")
    assert agents.endswith("| 500 | 0.25 |")
    assert adk.startswith("| google-adk DatabaseSessionService | 6.00 | 12.0 | 6.00 |")
    assert adk.endswith("| 167 | 0.17 |")
    assert text.endswith("2 cores; SQLAlchemySession 1, floor 1, DatabaseSessionService 1.")


def test_a_store_that_was_not_measured_says_why_and_one_that_ended_early_says_where() -> None:
    outcomes = {
        AGENTS.name: outcome(AGENTS, peer_ms=2, n=120),
        FILES.name: Outcome(reason="not installed: 404"),
    }

    text = report(outcomes, [300], "2 cores")

    assert "| openai-agents SQLAlchemySession, ended at 120 | 2.00 |" in text
    assert f"| {FILES.peer} {FILES.store} (files): not measured, see below | – |" in text
    assert "- FileSessionManager on files: not measured: not installed: 404." in text


def test_tables_are_put_between_the_marks_of_the_peers() -> None:
    page = "a\n<!-- peers -->\nold\n<!-- /peers -->\nb"

    assert placed(page, "new") == "a\n<!-- peers -->\nnew\n<!-- /peers -->\nb"
    with pytest.raises(ValueError, match="0 places"):
        placed("a page", "new")


class InMemory(Peer):
    async def open(self) -> None:
        self.texts: dict[str, list[str]] = {}

    async def begin(self, session: str) -> None:
        self.texts[session] = []

    async def append(self, session: str, text: str) -> None:
        self.texts[session].append(text)

    async def newest(self, session: str, count: int) -> list[str]:
        return self.texts[session][-count:]

    async def everything(self, session: str) -> list[str]:
        return self.texts[session]


async def test_a_worker_does_as_it_is_told_and_answers_with_a_time_for_each_call() -> None:
    peer = InMemory("nowhere", 10)
    await peer.open()
    worker = Worker(peer)

    assert await worker.obey({"do": "begin", "sessions": ["a", "b"]}) == {}
    appended = await worker.obey({"do": "append", "session": "a", "texts": ["1", "2", "3"]})
    newest = await worker.obey({"do": "read", "session": "a", "newest": 2, "times": 4})
    everything = await worker.obey({"do": "read", "session": "a", "newest": None, "times": 1})
    written = await worker.obey({"do": "writers", "sessions": ["a", "b"], "texts": ["4", "5"]})

    assert len(appended["seconds"]) == 3
    assert (newest["texts"], len(newest["seconds"])) == (["2", "3"], 4)
    assert everything["texts"] == ["1", "2", "3"]
    assert len(written["seconds"]) == 4
    assert written["wall"] > 0
    assert peer.texts == {"a": ["1", "2", "3", "4", "5"], "b": ["4", "5"]}


async def test_a_worker_that_cannot_import_its_peer_is_a_reason_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CACHE", tmp_path)

    histories = next(case for case in CASES if case.peer == "langchain-postgres")

    with pytest.raises(PeerUnavailableError, match="ended: ModuleNotFoundError: No module named 'langchain_"):
        async with link.started(histories, Path(sys.executable), "", 1):
            pytest.fail("it has started")

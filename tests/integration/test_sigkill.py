"""Killing clients and servers loses nothing acknowledged and leaves nothing unreadable.

``LUMINORA_CRASH_TRIALS`` is the number of kills of a client for each backend, 6 by default;
``LUMINORA_SERVER_KILLS`` is the number of kills of each server, 1 by default.
"""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import CrashReport, crash_trial, server_crash_trial
from tests.support import server_factories
from tests.support.faulty_server import FAULTY_SERVERS, Server
from tests.support.killed_clients import CLIENTS, Client
from tests.support.servers.mongo import MongoServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import ServerProcess
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_TRIALS = int(os.environ.get("LUMINORA_CRASH_TRIALS", "6"))
_TRIALS_ON_ONE_STORE = 10
_SERVER_KILLS = int(os.environ.get("LUMINORA_SERVER_KILLS", "1"))


@pytest.mark.parametrize("first_seed", range(1, _TRIALS + 1, _TRIALS_ON_ONE_STORE))
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_killing_the_client_loses_nothing(tmp_path: Path, client: Client, first_seed: int) -> None:
    path = tmp_path / "store"
    place = client.place(path)
    seeds = range(first_seed, min(first_seed + _TRIALS_ON_ONE_STORE, _TRIALS + 1))
    reports = [crash_trial(client.factory, place, seed=seed) for seed in seeds]
    client.clear(path)
    lost_nothing(reports)


def lost_nothing(reports: list[CrashReport]) -> None:
    """Assert that no trial on a store found a problem, and that the trials stored something."""
    assert [report.problems for report in reports] == [()] * len(reports)
    # Every trial except a very early kill had something to lose.
    assert sum(report.acknowledged for report in reports) >= len(reports)
    assert reports[-1].stored >= sum(report.acknowledged for report in reports)


@attrs.frozen
class Killed:
    """A server that is killed, with settings under which acknowledged writes are durable.

    Attributes:
        server: Creates it in a folder.
        storage: Creates a storage on it.
    """

    server: Callable[[Path], ServerProcess | ValkeyCluster]
    storage: Callable[[str], SessionStorage]


_SERVERS = {
    "postgres": Killed(PostgresServer, server_factories.postgres),
    "valkey": Killed(lambda folder: ValkeyServer(folder, durable=True), server_factories.redis),
    "valkey-cluster": Killed(lambda folder: ValkeyCluster(folder, durable=True), server_factories.redis),
    "mongodb": Killed(MongoServer, server_factories.mongodb),
    "mongodb-replica-set": Killed(lambda folder: MongoServer(folder, replica_set="luminora"), server_factories.mongodb),
}


@pytest.mark.parametrize("killed", _SERVERS.values(), ids=_SERVERS)
def test_killing_the_server_loses_nothing(killed: Killed) -> None:
    # Not in tmp_path: another pytest run would revoke the access of PostgreSQL's own user to its parents.
    with TemporaryDirectory() as folder, killed.server(Path(folder) / "server") as server:
        reports = [
            server_crash_trial(
                lambda: killed.storage(f"{server.url}#luminora"),
                kill=server.kill,
                start=server.start,
                seed=seed,
            )
            for seed in range(1, _SERVER_KILLS + 1)
        ]
    lost_nothing(reports)
    # At least one kill was noticed; others may be over before a call fails.
    assert sum(report.refused for report in reports) > 0


@pytest.mark.parametrize(
    ("fault", "problem"), [("TornTurns", "is incomplete"), ("LostTurns", "was acknowledged and is lost")]
)
def test_a_trial_finds_a_client_that_loses_turns(tmp_path: Path, fault: str, problem: str) -> None:
    reports = [crash_trial(f"tests.support.faulty_server:{fault}", tmp_path / "store", seed=seed) for seed in (3, 4, 5)]
    assert any(problem in found for report in reports for found in report.problems)


@pytest.mark.parametrize("kind", FAULTY_SERVERS, ids=lambda kind: kind.__name__)
def test_a_trial_finds_a_server_that_loses_turns(kind: type[Server]) -> None:
    server = kind()
    # with this seed the server stays away until every client has failed
    report = server_crash_trial(server.client, kill=server.kill, start=server.start, seed=2)
    assert any(kind.found_as in problem for problem in report.problems)


def test_a_trial_passes_a_sound_server() -> None:
    server = Server()
    reports = [
        server_crash_trial(server.client, kill=server.kill, start=server.start, seed=seed) for seed in range(1, 6)
    ]
    lost_nothing(reports)
    assert min(report.refused for report in reports) > 0


def test_a_trial_finds_clients_that_stay_away() -> None:
    server = Server()
    with pytest.raises(AssertionError, match=r"waited 0\.5 s for turns of every writer after the restart"):
        server_crash_trial(server.client, kill=server.kill, start=lambda: None, seed=1, patience=0.5)

"""The garbage collector while a large document is read."""

import gc
import os
from collections.abc import Iterator

import pytest

from luminoracore_sdk.adapters.codec import values
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.collector import collector_held_off
from luminoracore_sdk.domain.errors import CorruptRecordError
from tests.unit.test_domain_pieces import LARGE_VALUES


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_is_held_off_until_the_last_block_ends() -> None:
    with collector_held_off():
        with collector_held_off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_disabled_collector_stays_disabled() -> None:
    gc.disable()
    with collector_held_off():
        pass
    assert not gc.isenabled()


def test_it_is_enabled_after_an_error() -> None:
    with pytest.raises(KeyError), collector_held_off():
        raise KeyError
    assert gc.isenabled()


def test_a_large_structure_is_read_without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(values, "let_others_run", lambda: seen.append(gc.isenabled()))
    codec = JsonCodec()
    payload = codec.encode(LARGE_VALUES["numbers"])
    seen.clear()
    codec.decode(payload, backend="memory", key="k")
    assert set(seen) == {False}
    assert gc.isenabled()
    with pytest.raises(CorruptRecordError):
        codec.decode(type(payload)("json", payload.data[:-1]), backend="memory", key="k")
    assert gc.isenabled()


def test_a_forked_child_collects_again() -> None:
    """The thread that held the collector off stays in the parent."""
    with collector_held_off():
        assert not gc.isenabled()
        child = os.fork()
        if child == 0:
            with collector_held_off():
                pass
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert gc.isenabled()

"""Keyring: where keys come from, what is refused, and that none is ever shown."""

import base64
import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from luminoracore_sdk.adapters.encryption.keyring import Keyring, load_keyring
from luminoracore_sdk.utils.exceptions import ConfigurationError

A, B, INDEX = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
TEXT_A = base64.b64encode(A).decode()


def environment(**variables: str) -> Mapping[str, str]:
    return {f"LUMINORA_ENCRYPTION_{name}": value for name, value in variables.items()}


def test_the_first_key_is_the_current_one_unless_told() -> None:
    assert Keyring({"b": B, "a": A}).current == "b"
    ring = Keyring({"b": B, "a": A}, current="a")
    assert (ring.current, ring.ids, ring.key("a"), ring.key("b")) == ("a", ("b", "a"), A, B)


def test_names_use_the_last_key_without_an_index_key() -> None:
    assert Keyring({"b": B, "a": A}).index_secret == (A, False)
    assert Keyring({"b": B, "a": A}, index_key=INDEX).index_secret == (INDEX, True)


@pytest.mark.parametrize(
    "text",
    [
        TEXT_A,
        TEXT_A.rstrip("="),
        A.hex(),
        A.hex().upper(),
    ],
)
def test_a_key_of_the_environment_is_base64_or_hexadecimal(text: str) -> None:
    assert Keyring.from_environment(environment(KEYS=f"k:{text}")).key("k") == A


def test_both_alphabets_of_base64_are_read() -> None:
    key = b"\xfb\xff" * 16
    for encoded in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        assert Keyring.from_environment(environment(KEYS=f"k:{encoded.decode()}")).key("k") == key


def test_the_environment_holds_several_keys_and_an_index_key() -> None:
    ring = Keyring.from_environment(environment(KEYS=f"2026-11:{B.hex()}, 2025-01:{TEXT_A} ", INDEX_KEY=INDEX.hex()))
    assert (ring.ids, ring.current) == (("2026-11", "2025-01"), "2026-11")
    assert ring.index_secret == (INDEX, True)


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINORA_ENCRYPTION_KEYS", f"k:{A.hex()}")
    monkeypatch.delenv("LUMINORA_ENCRYPTION_INDEX_KEY", raising=False)
    assert Keyring.from_environment().index_secret == (A, False)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "set the environment variable LUMINORA_ENCRYPTION_KEYS"),
        ({"KEYS": "  "}, "set the environment variable LUMINORA_ENCRYPTION_KEYS"),
        ({"KEYS": A.hex()}, "part 1 of LUMINORA_ENCRYPTION_KEYS is not <id>:<key>"),
        ({"KEYS": f"k:{A.hex()},"}, "part 2 of LUMINORA_ENCRYPTION_KEYS is not"),
        ({"KEYS": f"k:{A.hex()},k:{B.hex()}"}, "part 2 of LUMINORA_ENCRYPTION_KEYS is not"),
        ({"KEYS": f"{A.hex()}:k"}, "part 1 of LUMINORA_ENCRYPTION_KEYS is not"),
        ({"KEYS": f"k:{A.hex()[:-2]}"}, "part 1 of LUMINORA_ENCRYPTION_KEYS must be 32 bytes long, not 46"),
        ({"KEYS": "k:secret!"}, "part 1 of LUMINORA_ENCRYPTION_KEYS is neither base64 nor 64 hexadecimal"),
        ({"KEYS": f"k:{A.hex()}", "INDEX_KEY": "x"}, "LUMINORA_ENCRYPTION_INDEX_KEY is neither base64"),
        ({"KEYS": f"k:{A.hex()}", "INDEX_KEY": "AAAA"}, "INDEX_KEY must be 32 bytes long, not 3"),
    ],
)
def test_wrong_variable_is_named_without_its_value(variables: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Keyring.from_environment(environment(**variables))
    assert [part for part in (A.hex(), A.hex()[:-2], "secret!") if part in str(caught.value)] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"keys": {}}, "at least one key"),
        ({"keys": [A]}, "takes a mapping"),
        ({"keys": {"a b": A}}, "a key id is 1 to 32 of"),
        ({"keys": {"": A}}, "a key id is 1 to 32 of"),
        ({"keys": {"x" * 33: A}}, "a key id is 1 to 32 of"),
        ({"keys": {5: A}}, "a key id is 1 to 32 of"),
        ({"keys": {"k": A[:16]}}, "key 'k' must be 32 bytes long, not 16"),
        ({"keys": {"k": A.hex()}}, "key 'k' must be bytes, not str"),
        ({"keys": {"k": A}, "current": "j"}, "the current key 'j' is not in the keyring"),
        ({"keys": {"k": A}, "index_key": b"short"}, "the index key must be 32 bytes long, not 5"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Keyring(**arguments)


def test_a_ring_shows_ids_and_no_key() -> None:
    assert repr(Keyring({"b": B, "a": A}, index_key=INDEX)) == "Keyring(ids=('b', 'a'), current='b')"


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_ring_does_not_leave_the_process_by_accident(take: Any) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        take(Keyring({"a": A}))


async def test_keys_are_fetched_by_a_callable_of_either_kind() -> None:
    ring = Keyring({"a": A})

    async def fetch() -> Keyring:
        return ring

    async def fetch_mapping() -> dict[str, bytes]:
        return {"b": B, "a": A}

    assert await load_keyring(ring) is ring
    assert await load_keyring(lambda: ring) is ring
    assert await load_keyring(fetch) is ring
    assert (await load_keyring(fetch_mapping)).ids == ("b", "a")
    assert (await load_keyring(lambda: {"a": A})).key("a") == A


async def test_a_callable_that_returns_something_else_is_refused() -> None:
    wrong: Any = A.hex
    with pytest.raises(ConfigurationError, match=r"must return a Keyring or a mapping of keys, not str") as caught:
        await load_keyring(wrong)
    assert A.hex() not in str(caught.value)

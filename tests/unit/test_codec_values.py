import asyncio
import json

import pytest

from luminoracore_sdk.adapters.codec import values
from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE, JsonCodec
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, InvalidJSONError, UnreadablePayloadError
from luminoracore_sdk.domain.json_value import same_json
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.testing.records import DOCUMENTS, NOT_DOCUMENTS
from tests.unit.test_domain_pieces import LARGE_VALUES

CODEC = JsonCodec()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_comes_back_the_same(name: str) -> None:
    payload = CODEC.encode(DOCUMENTS[name])
    assert same_json(CODEC.decode(payload, backend="memory", key="k"), DOCUMENTS[name])


@pytest.mark.parametrize(
    ("value", "tag", "data"),
    [
        ({"b": 1, "a": [True, None]}, JSON, b'{"b":1,"a":[true,null]}'),
        ("é\n", JSON, '"é\\n"'.encode()),
        (-0.0, JSON, b"-0.0"),
        (2**64 - 1, JSON, b"18446744073709551615"),
        (-(2**63), JSON, b"-9223372036854775808"),
        (2**64, JSON_WIDE, b"18446744073709551616"),
        (-(2**63) - 1, JSON_WIDE, b"-9223372036854775809"),
        ({"a": "\ud800"}, JSON_WIDE, b'{"a":"\\ud800"}'),
    ],
)
def test_the_tag_says_which_reader_is_exact(value: object, tag: str, data: bytes) -> None:
    assert CODEC.encode(value) == Payload(tag, data)


@pytest.mark.parametrize("name", [name for name in NOT_DOCUMENTS if name not in {"None", "list", "text"}])
def test_what_is_not_json_is_refused_with_the_name_of_the_place(name: str) -> None:
    with pytest.raises(InvalidJSONError, match=r"^message"):
        CODEC.encode(NOT_DOCUMENTS[name], where="message")


def test_an_integer_that_python_will_not_print_is_refused() -> None:
    with pytest.raises(InvalidJSONError, match=r"^message is not JSON") as caught:
        CODEC.encode([10**5000], where="message")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "payload",
    [
        Payload("json", b""),
        Payload("json", b'{"a":'),
        Payload("json", b"NaN"),
        Payload("json", b"\xff"),
        Payload("json-wide", b"[1"),
        Payload("json-wide", b"\xff\xfe\xfd"),
        Payload("json+opt1", b"1"),
        Payload("json+opt1", b"[]"),
        Payload("json-wide+opt1", b"{}"),
    ],
)
def test_damaged_bytes_are_refused_with_backend_and_key(payload: Payload) -> None:
    with pytest.raises(CorruptRecordError, match="not valid json") as caught:
        CODEC.decode(payload, backend="sqlite", key="session 's'")
    assert (caught.value.backend, caught.value.key) == ("sqlite", "session 's'")


@pytest.mark.parametrize("tag", ["json+zstd", "json+opt0", "", "JSON"])
def test_a_payload_of_another_make_is_refused_with_what_to_do(tag: str) -> None:
    with pytest.raises(UnreadablePayloadError, match="switch on the wrapper that wrote it"):
        CODEC.decode(Payload(tag, b"{}"), backend="sqlite", key="session 's'")


@pytest.mark.parametrize(
    ("tag", "is_text"),
    [("json", True), ("json-wide", True), ("json+opt1", True), ("json+zstd", False), ("", False)],
)
def test_a_payload_knows_whether_it_is_text(tag: str, is_text: bool) -> None:
    assert Payload(tag, b"").is_text is is_text


@pytest.mark.parametrize("name", LARGE_VALUES)
def test_large_values_come_back_the_same(name: str) -> None:
    value = {"v": 2, "content": LARGE_VALUES[name]}
    payload = CODEC.encode(value)
    assert payload.encoding in {JSON, JSON_WIDE}
    assert len(payload.data) > LARGE
    assert json.loads(payload.data) == json.loads(json.dumps(value))
    assert b"\n" not in payload.data
    assert same_json(CODEC.decode(payload, backend="memory", key="k"), json.loads(json.dumps(value)))


async def test_on_a_loop_a_large_value_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[int] = []
    payload = CODEC.encode(LARGE_VALUES["numbers"])
    monkeypatch.setattr(values, "let_others_run", lambda: sleeps.append(1))
    assert CODEC.decode(payload, backend="memory", key="k") == LARGE_VALUES["numbers"]
    assert sleeps == []
    assert await asyncio.to_thread(CODEC.decode, payload, backend="memory", key="k") == LARGE_VALUES["numbers"]
    assert len(sleeps) == 40_000 // 512


@pytest.mark.parametrize("value", [2**64, -0.0, 5e-324, 0.1, 2**63 - 1, -(2**63), "é", '"quoted"'])
def test_large_lists_are_read_exactly(value: object) -> None:
    assert same_json(CODEC.decode(CODEC.encode([value] * 100_000), backend="memory", key="k"), [value] * 100_000)


@pytest.mark.parametrize("end", [b"", b"]]", b",NaN]", b",1,\xff]", b",Infinity]"])
def test_a_damaged_large_payload_is_refused(end: bytes) -> None:
    payload = Payload(JSON, b"[" + b'{"a":1},' * 50_000 + b"1" + end)
    with pytest.raises(CorruptRecordError, match="not valid json"):
        CODEC.decode(payload, backend="memory", key="k")


def test_a_large_value_that_is_not_json_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidJSONError, match=r"value\[99999\]\['a'\] is not JSON: nan"):
        CODEC.encode([*[{"a": 1}] * 99_999, {"a": float("nan")}])

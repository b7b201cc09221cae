"""What a change of a payload is for."""

import attrs
import pytest

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.records import MessageRecord, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite, RewritingStorage
from luminoracore_sdk.testing.records import message_record

_STORED = attrs.evolve(message_record("m"), position=3, payload=Payload("json", b"1"))
_CHANGE = PayloadRewrite(position=3, message_id="m", old=Payload("json", b"1"), new=Payload("x", b"2"))


def test_a_change_fits_the_message_that_was_read() -> None:
    assert _CHANGE.fits(_STORED) is True


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(_STORED, position=4),
        attrs.evolve(_STORED, message_id="n"),
        attrs.evolve(_STORED, payload=Payload("json+opt1", b"1")),
        attrs.evolve(_STORED, payload=Payload("json", b"10")),
        attrs.evolve(_STORED, payload=_CHANGE.new),
    ],
)
def test_a_change_does_not_fit_another_message_or_payload(other: MessageRecord) -> None:
    assert _CHANGE.fits(other) is False


async def test_a_backend_is_a_rewriting_storage() -> None:
    storage = InMemoryStorage()
    assert isinstance(storage, RewritingStorage)
    assert not isinstance(object(), RewritingStorage)

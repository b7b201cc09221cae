"""The contract: changes of payloads that are refused, and change nothing."""

import attrs
import pytest

from luminoracore_sdk.application.ports.recoding import PayloadChange
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import InvalidIdError, PayloadTooLargeError, ValidationError
from luminoracore_sdk.testing.builders import message_record
from luminoracore_sdk.testing.contract_recoding_base import A_TEXT, NEW, RecodingCalls

__all__ = ["RecodingRefusalContract"]

_ALL = MessageRange()


class RecodingRefusalContract(RecodingCalls):
    """What ``RecodingStorage`` refuses."""

    async def test_wrong_batches_are_refused_and_change_nothing(self, storage: SessionStorage) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadChange(position=2, message_id="m2", old=A_TEXT, new=NEW)
        many = [attrs.evolve(change, position=position) for position in range(1, 1002)]
        for batch in ([], many, [change, change], [attrs.evolve(change, position=0), change]):
            with pytest.raises(ValidationError):
                await recoding.recode_messages("s", batch)
        with pytest.raises(InvalidIdError):
            await recoding.recode_messages("s", [change, attrs.evolve(change, position=1, message_id="")])
        for session_id, scope, key in (
            ("", MemoryScope("user", "s"), ""),
            ("\0", MemoryScope("user", ""), "k"),
        ):
            with pytest.raises(InvalidIdError):
                await recoding.recode_session(session_id, old=A_TEXT, new=NEW)
            with pytest.raises(InvalidIdError):
                await recoding.recode_memory(scope, key, old=A_TEXT, new=NEW)
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_a_new_payload_above_the_limit_is_refused_and_changes_nothing(
        self, storage: SessionStorage
    ) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, A_TEXT)
        large = Payload("json+zstd:0", b"x" * (self.max_payload_bytes + 1))
        changes = [
            PayloadChange(position=1, message_id="m1", old=message_record("m1").payload, new=NEW),
            PayloadChange(position=2, message_id="m2", old=A_TEXT, new=large),
        ]
        with pytest.raises(PayloadTooLargeError):
            await recoding.recode_messages("s", changes)
        with pytest.raises(PayloadTooLargeError):
            await recoding.recode_session("s", old=A_TEXT, new=large)
        with pytest.raises(PayloadTooLargeError):
            await recoding.recode_memory(MemoryScope("session", "s"), "k", old=A_TEXT, new=large)
        first, second = await storage.read_messages("s", _ALL)
        assert (first.payload, second) == (message_record("m1").payload, message)

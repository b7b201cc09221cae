"""EncryptedStorageWrapper: appends that must know their position, with others who were first."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, SessionRecord
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    StorageBusyError,
    StorageUnavailableError,
    ValidationError,
)
from tests.support.encryption import ALL, keyring

Act = Callable[[], Awaitable[object]]


class Crowded(StorageWrapper):
    """A storage on which others do something just before an append.

    Attributes:
        before: What they do, one a call.
        calls: Names of the calls about positions.
    """

    def __init__(self, base: InMemoryStorage) -> None:
        super().__init__(base)
        self.before: list[Act] = []
        self.calls: list[str] = []

    async def find_session(self, session_id: str) -> SessionRecord | None:
        self.calls.append("find")
        return await super().find_session(session_id)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        self.calls.append(f"append at {expected_last}")
        if self.before:
            await self.before.pop(0)()
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)


@pytest.fixture
def crowded() -> Crowded:
    return Crowded(InMemoryStorage())


@pytest.fixture
async def storage(crowded: Crowded) -> EncryptedStorageWrapper:
    storage = EncryptedStorageWrapper(crowded, keyring())
    await storage.put_session(session_record())
    return storage


@pytest.fixture
def other(crowded: Crowded) -> EncryptedStorageWrapper:
    """Another process, so to say."""
    return EncryptedStorageWrapper(crowded.base, keyring())


async def ids(storage: EncryptedStorageWrapper) -> list[str]:
    return [message.message_id for message in await storage.read_messages("s", ALL)]


def appending(storage: EncryptedStorageWrapper, *names: str) -> Act:
    return lambda: storage.append_messages("s", [message_record(name) for name in names])


async def test_the_position_is_looked_up_once(storage: EncryptedStorageWrapper, crowded: Crowded) -> None:
    for number in range(3):
        await storage.append_messages("s", message_records(2, prefix=f"{number}-"))
    assert crowded.calls == ["find", "append at 0", "append at 2", "append at 4"]


async def test_it_is_looked_up_again_when_somebody_was_first(
    storage: EncryptedStorageWrapper, other: EncryptedStorageWrapper, crowded: Crowded
) -> None:
    crowded.before = [appending(other, "theirs"), appending(other, "theirs too")]
    receipt = await storage.append_messages("s", [message_record("ours")])
    assert receipt == AppendReceipt(first_position=3, last_position=3)
    assert await ids(storage) == await ids(other) == ["theirs", "theirs too", "ours"]


async def test_a_history_that_was_cut_or_begun_anew_is_noticed(
    storage: EncryptedStorageWrapper, other: EncryptedStorageWrapper
) -> None:
    await storage.append_messages("s", message_records(4))
    await other.truncate_messages("s", after=1)
    assert (await storage.append_messages("s", [message_record("next")])).first_position == 2
    await other.delete_session("s")
    await other.put_session(session_record())
    assert (await storage.append_messages("s", [message_record("again")])).first_position == 1
    assert await ids(storage) == ["again"]


async def test_expected_position_is_not_read_and_may_conflict(
    storage: EncryptedStorageWrapper, other: EncryptedStorageWrapper, crowded: Crowded
) -> None:
    await other.append_messages("s", message_records(2))
    with pytest.raises(ConflictError, match="expected last position 1, found last position 2"):
        await storage.append_messages("s", [message_record("new")], expected_last=1)
    receipt = await storage.append_messages("s", [message_record("new")], expected_last=2)
    assert receipt == AppendReceipt(first_position=3, last_position=3)
    assert crowded.calls == ["append at 1", "append at 2"]


async def test_replay_differs_from_a_partly_stored_batch(storage: EncryptedStorageWrapper, crowded: Crowded) -> None:
    await storage.append_messages("s", message_records(3))
    for expected_last in (None, 0, 99):
        receipt = await storage.append_messages("s", message_records(2), expected_last=expected_last)
        assert receipt == AppendReceipt(first_position=1, last_position=2, replayed=True)
        with pytest.raises(ConflictError):
            await storage.append_messages(
                "s", [message_record("m3"), message_record("new")], expected_last=expected_last
            )
    assert await ids(storage) == ["m1", "m2", "m3"]


async def test_history_grown_and_truncated_meanwhile_is_no_conflict(
    storage: EncryptedStorageWrapper, other: EncryptedStorageWrapper, crowded: Crowded
) -> None:
    await storage.append_messages("s", message_records(2))
    find = crowded.find_session

    async def cut_first(session_id: str) -> SessionRecord | None:
        await other.truncate_messages("s", after=2)  # back to where it was before anybody looks
        return await find(session_id)

    crowded.before = [appending(other, f"theirs {number}") for number in range(3)]
    crowded.find_session = cut_first  # type: ignore[method-assign]
    receipt = await storage.append_messages("s", message_records(2, prefix="new"))
    assert receipt == AppendReceipt(first_position=3, last_position=4)
    assert await ids(storage) == ["m1", "m2", "new1", "new2"]


async def test_same_batch_stored_meanwhile_gives_its_first_receipt(
    storage: EncryptedStorageWrapper, other: EncryptedStorageWrapper, crowded: Crowded
) -> None:
    async def come_and_go() -> None:
        await other.append_messages("s", [message_record("theirs")])
        crowded.before = [store_the_twin]

    async def store_the_twin() -> None:
        await appending(other, "a", "b")()

    find = crowded.find_session

    async def cut_first(session_id: str) -> SessionRecord | None:
        await other.truncate_messages("s", after=0)
        return await find(session_id)

    await storage.append_messages("s", [message_record("x")])  # so that the position is remembered
    await other.truncate_messages("s", after=0)
    await storage.truncate_messages("s", after=0)
    crowded.find_session = cut_first  # type: ignore[method-assign]
    crowded.before = [come_and_go]
    receipt = await storage.append_messages("s", [message_record("a"), message_record("b")])
    assert receipt == AppendReceipt(first_position=1, last_position=2, replayed=True)


async def test_others_who_are_always_first_end_in_a_busy_error(
    crowded: Crowded, other: EncryptedStorageWrapper
) -> None:
    hasty = EncryptedStorageWrapper(crowded, keyring(), time_limit=0.05)
    await hasty.put_session(session_record())
    crowded.before = [appending(other, f"theirs {number}") for number in range(10_000)]
    with pytest.raises(StorageBusyError, match=r"session 's': other processes appended first for 0.05 s") as caught:
        await hasty.append_messages("s", [message_record("ours")])
    assert isinstance(caught.value.__cause__, ConflictError)
    assert caught.value.in_doubt is False
    assert [name for name in await ids(other) if not name.startswith("theirs")] == []


async def test_after_an_append_in_doubt_the_position_is_looked_up(
    storage: EncryptedStorageWrapper, crowded: Crowded
) -> None:
    async def fail() -> None:
        raise StorageUnavailableError("memory", "the connection was lost", in_doubt=True)

    await storage.append_messages("s", [message_record("m1")])
    crowded.before = [fail]
    with pytest.raises(StorageUnavailableError):
        await storage.append_messages("s", [message_record("m2")])
    assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2
    assert crowded.calls[2:] == ["append at 1", "find", "append at 1"]


@pytest.mark.parametrize("position", ["1", 1.0, b"1"], ids=["text", "float", "bytes"])
async def test_a_position_that_is_no_whole_number_is_refused(
    storage: EncryptedStorageWrapper, crowded: Crowded, position: object
) -> None:
    with pytest.raises(ValidationError, match=f"expected_last must be a whole number, not {position!r}"):
        await storage.append_messages("s", message_records(1), expected_last=position)  # type: ignore[arg-type]
    assert crowded.calls == []

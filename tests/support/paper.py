"""A fake backend for the group commit that records its requests."""

import asyncio
from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, Payload
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError, ValidationError

__all__ = [
    "BACKEND",
    "Paper",
    "an_append",
    "others_under_way",
    "settle",
    "two_of_which_the_second_hangs",
    "waiting",
]

BACKEND = "paper"


class Paper:
    """Store messages by session and record requests, which wait while ``gate`` is closed."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[str]] = {}
        self.requests: list[list[str]] = []
        self.sizes: list[int] = []  # the requests for several appends
        self.gate = asyncio.Event()
        self.gate.set()
        self.stuck: set[str] = set()
        self.errors: list[Exception] = []
        self.shuts_after_an_error = False

    async def alone(self, append: Append) -> AppendReceipt:
        self.requests.append([_text(append)])
        await self.gate.wait()
        if append.session_id in self.stuck:
            await asyncio.Event().wait()
        return self._write(append)

    async def together(self, appends: Sequence[Append]) -> list[AppendReceipt | None]:
        self.sizes.append(len(appends))
        self.requests.append([_text(append) for append in appends])
        await self.gate.wait()
        if self.errors:
            if self.shuts_after_an_error:
                self.gate.clear()
            raise self.errors.pop(0)
        return [None if append.session_id in self.stuck else self._or_none(append) for append in appends]

    def _or_none(self, append: Append) -> AppendReceipt | None:
        try:
            return self._write(append)
        except (ConflictError, SessionNotFoundError):
            return None

    def _write(self, append: Append) -> AppendReceipt:
        if append.session_id == "absent":
            raise SessionNotFoundError(append.session_id, backend=BACKEND)
        kept = self.sessions.setdefault(append.session_id, [])
        if append.expected_last not in (None, len(kept)):
            expected, actual = append.expected_last, len(kept)
            raise ConflictError(backend=BACKEND, key="session", expected=expected, actual=actual)
        if append.messages[0].message_id == "bad":
            raise ValidationError("a bad message")
        if append.messages[0].message_id == "defect":
            raise TypeError("a defect")
        first = len(kept) + 1
        kept += [message.message_id for message in append.messages]
        return AppendReceipt(first_position=first, last_position=len(kept))


def _text(append: Append) -> str:
    return f"{append.session_id}:{append.messages[0].message_id}"


def an_append(
    session_id: str, message_id: str = "a", *, expected: int | None = None, count: int = 1, size: int = 3
) -> Append:
    ids = [message_id, *(f"{message_id}{number}" for number in range(1, count))]
    payload = Payload("json", b"1" * size)
    records = [MessageRecord(message_id=one, role="user", created_at_us=1, payload=payload) for one in ids]
    return Append(session_id, records, expected, 1)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def waiting(group: GroupCommit, appends: Sequence[Append]) -> list[asyncio.Task[AppendReceipt]]:
    tasks = [asyncio.create_task(group.append(append)) for append in appends]
    await settle()
    return tasks


async def others_under_way(
    paper: Paper, group: GroupCommit, appends: Sequence[Append]
) -> list[asyncio.Task[AppendReceipt]]:
    """Begin appends of which the first is written and the request of the others hangs at the gate."""
    paper.gate.clear()
    tasks = await waiting(group, appends)
    paper.gate.set()
    await tasks[0]
    paper.gate.clear()
    await settle()
    return tasks


async def two_of_which_the_second_hangs(
    paper: Paper, group: GroupCommit
) -> tuple[asyncio.Task[AppendReceipt], asyncio.Task[AppendReceipt]]:
    paper.gate.clear()
    paper.stuck = {"b"}
    first, second = await waiting(group, [an_append("a"), an_append("b")])
    paper.gate.set()
    await first
    await settle()
    return first, second

"""What must hold in a store after a kill, whoever was killed: the writer or the server."""

from collections.abc import Iterable, Sequence

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import _crash_writer

__all__ = ["Acknowledged", "CrashReport", "check_store"]


@attrs.frozen(kw_only=True)
class CrashReport:
    """What one kill showed.

    Attributes:
        acknowledged: Turns that the writer knew to be stored.
        stored: Turns found in the store, of this trial and of those before it on the same place.
        refused: Calls that failed because the server was away; 0 where the writer was killed.
        problems: What is wrong, one line each; empty: nothing lost, nothing double, nothing unreadable.
    """

    acknowledged: int
    stored: int
    refused: int = 0
    problems: tuple[str, ...]


@attrs.frozen
class Acknowledged:
    """What a writer was told.

    Attributes:
        turns: Session and name of each turn that is stored, in the order of the acknowledgements.
        memories: Session and key of each memory that is stored, in that order.
        finished: Whether every writer knows of each of its turns whether it is stored; False: each
            may have left one of which it was told nothing.
    """

    turns: Sequence[tuple[str, str]]
    memories: Sequence[tuple[str, str]]
    finished: bool = False


async def check_store(storage: SessionStorage, run: str, told: Acknowledged) -> CrashReport:
    """Read everything, then go on writing, and say what is wrong.

    Args:
        storage: On the place where the writers wrote; nobody else writes to it now.
        run: What the names of this trial's turns begin with, before a dash.
        told: What the writers know.
    """
    problems: list[str] = []
    stored = 0
    sessions = await storage.list_sessions()
    lost = {session_id for session_id, _ in told.turns} - set(sessions)
    problems += [f"{session_id} is lost" for session_id in sorted(lost)]
    for session_id in sessions:
        first = await storage.read_messages(session_id, MessageRange())
        problems += await _wrong_going_on(storage, session_id, run, first)
        # Read again: a server may have done a killed writer's last append only now.
        messages = await storage.read_messages(session_id, MessageRange())
        stored += sum(message.role == "user" for message in messages) - 1  # without the one just appended
        if messages[: len(first)] != first:
            problems.append(f"{session_id}: messages changed after the kill")
        problems += _wrong_in(session_id, messages)
        problems += _wrong_against(session_id, messages, run, told)
        problems += await _wrong_memories(storage, session_id, told)
    return CrashReport(acknowledged=len(told.turns), stored=stored, problems=tuple(problems))


async def _wrong_going_on(
    storage: SessionStorage, session_id: str, run: str, messages: list[MessageRecord]
) -> list[str]:
    """Append one more turn, and the last one again: both must do what they do on any other day."""
    problems = []
    if messages and not (await storage.append_messages(session_id, messages[-2:])).replayed:
        problems.append(f"{session_id}: the last turn was stored again")
    name = f"after-{run}"
    receipt = await storage.append_messages(session_id, _crash_writer.turn(session_id, name))
    span = MessageRange(after=receipt.first_position - 1, before=receipt.last_position + 1)
    there = [message.message_id for message in await storage.read_messages(session_id, span)]
    if there != [message.message_id for message in _crash_writer.turn(session_id, name)]:
        problems.append(f"{session_id}: the next turn is not at position {receipt.first_position}")
    return problems


def _wrong_in(session_id: str, messages: list[MessageRecord]) -> list[str]:
    problems = []
    if [message.position for message in messages] != list(range(1, len(messages) + 1)):
        problems.append(f"{session_id}: positions have gaps")
    if len({message.message_id for message in messages}) != len(messages):
        problems.append(f"{session_id}: a message is there twice")
    for start in range(0, len(messages), 2):
        pair = messages[start : start + 2]
        name = pair[0].message_id.rpartition("-")[0]
        wanted = [(m.message_id, m.role, m.payload) for m in _crash_writer.turn(session_id, name)]
        if [(m.message_id, m.role, m.payload) for m in pair] != wanted:
            problems.append(f"{session_id}: the turn at position {start + 1} is not whole")
    return problems


def _wrong_against(session_id: str, messages: list[MessageRecord], run: str, told: Acknowledged) -> list[str]:
    """Compare what is stored with what the writer was told."""
    turns = _of(session_id, told.turns)
    found = list(dict.fromkeys(message.message_id.rpartition("-")[0] for message in messages))
    problems = [f"{session_id}: {turn} was acknowledged and is lost" for turn in turns if turn not in found]
    if [turn for turn in found if turn in turns] != [turn for turn in turns if turn in found]:
        problems.append(f"{session_id}: turns are not in the order of their acknowledgements")
    untold = [turn for turn in found if turn.startswith(f"{run}-") and turn not in turns]
    if len(untold) > (0 if told.finished else 1):
        problems.append(f"{session_id}: {len(untold)} turns are stored of which none was told")
    return problems


async def _wrong_memories(storage: SessionStorage, session_id: str, told: Acknowledged) -> list[str]:
    keys = _of(session_id, told.memories)
    scope = MemoryScope("session", session_id)
    found = [memory.key for memory in await storage.list_memories(scope)]
    problems = []
    if keys and keys[-1] not in found:  # of equal retention the newest stay
        problems.append(f"{session_id}: the memory {keys[-1]} was acknowledged and is lost")
    # A put that was killed never returned, so it may have left one too many; the next one may not.
    await _crash_writer.remember(storage, session_id, "after the kill")
    count = len(await storage.list_memories(scope))
    if count > _crash_writer.MOST_MEMORIES:
        problems.append(f"{session_id}: {count} memories, at most {_crash_writer.MOST_MEMORIES} were allowed")
    return problems


def _of(session_id: str, told: Iterable[tuple[str, str]]) -> list[str]:
    return [name for of, name in told if of == session_id]

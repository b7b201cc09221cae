"""What the forms take, and how long writing and reading takes."""

import json
from collections.abc import Sequence
from math import inf
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.optimizer_parts.forms import FORMS, OURS, PLAIN, Form, payload_bytes
from benchmarks.optimizer_parts.tables import percent, table
from benchmarks.optimizer_parts.talks import ChatRepl
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.optimization import Optimizer

__all__ = ["size_table", "time_table"]

_ROUNDS = 9
_STANDARD = "json.dumps + json.loads"


def message_documents(talks: Sequence[ChatRepl], *roles: MessageRole) -> list[Any]:
    """Return what is stored for each message."""
    codec = JsonEntityCodec()
    records = (codec.message_record(message) for talk in talks for message in talk.messages if message.role in roles)
    return [json.loads(record.payload.data) for record in records]


async def size_table(talks: Sequence[ChatRepl]) -> str:
    """Return a table of bytes against compact JSON, in total and of the median record."""
    kinds = {
        "whole sessions": [talk.document() for talk in talks],
        "single messages": message_documents(talks, *MessageRole),
        "of the user": message_documents(talks, MessageRole.USER),
        "answers, with metadata": message_documents(talks, MessageRole.ASSISTANT),
    }
    columns = [_column(values) for values in kinds.values()]
    stored = await _stored_bytes(talks)
    for column, ours in zip(columns, stored, strict=False):  # the forms' arithmetic is the wrapper's
        assert ours == sum(column[OURS]), f"the wrapper stores {ours:,} bytes, not {sum(column[OURS]):,}"
    rows = [[form.name, *(_cell(form.name, column) for column in columns)] for form in FORMS]
    return table(["", *kinds], rows)


def _column(values: list[Any]) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    for form in FORMS:
        written = [form.write(value) for value in values]
        assert all(form.read(data) == value for data, value in zip(written, values, strict=True)), form.name
        sizes[form.name] = [form.size(data) for data in written]
    return sizes


def _cell(name: str, column: dict[str, list[int]]) -> str:
    plain, sizes = column[PLAIN], column[name]
    if name == PLAIN:
        return f"{sum(plain):,} B in {len(plain):,}; median {median(plain):,.0f} B"
    middle = median(size / whole for size, whole in zip(sizes, plain, strict=True))
    return f"{percent(sum(sizes), sum(plain))}; median {percent(middle, 1)}"


async def _stored_bytes(talks: Sequence[ChatRepl]) -> tuple[int, int]:
    """Return what a store below the wrapper holds: of sessions saved whole, of messages appended singly."""
    codec, base = JsonEntityCodec(), InMemoryStorage()
    whole = single = 0
    async with OptimizedStorageWrapper(base, Optimizer()) as storage:
        for talk in talks:
            name, document = talk.session.session_id, talk.document()
            await storage.save_session(name, document)
            for message in talk.messages:
                await storage.append_messages(name, [codec.message_record(message)])
            assert await storage.load_session(name) == document
            record = await base.find_session(name)
            if record is not None and record.payload is not None:
                whole += payload_bytes(record.payload)
            messages = await base.read_messages(name, MessageRange(limit=len(talk.messages)))
            single += sum(payload_bytes(message.payload) for message in messages)
    return whole, single


def time_table(talks: Sequence[ChatRepl]) -> str:
    """Return a table of the time to write and read one value, against ``json.dumps`` + ``json.loads``."""
    kinds = {
        "a session": [talk.document() for talk in talks][::3],
        "a message": message_documents(talks, *MessageRole)[::10],
    }
    columns = [_times(values) for values in kinds.values()]
    rows = [[name, *(cell for column in columns for cell in _time_cells(column, name))] for name in columns[0]]
    heads = [head for kind in kinds for head in (f"{kind}, median", "ratio, median", "ratio, of all")]
    return table(["", *heads], rows)


def _time_cells(column: dict[str, list[float]], name: str) -> list[str]:
    seconds, against = column[name], column[_STANDARD]
    ratio = median(own / other for own, other in zip(seconds, against, strict=True))
    return [f"{1e6 * median(seconds):.1f} µs", f"{ratio:.2f}", f"{sum(seconds) / sum(against):.2f}"]


def _times(values: list[Any]) -> dict[str, list[float]]:
    """Return the best time of each value in each form, in seconds.

    The best, because what else the machine does only adds to it. The forms take turns, so that none finds
    a quieter machine than the others.
    """
    ways = {_STANDARD: Form(_STANDARD, json.dumps, json.loads)}
    ways |= {form.name: form for form in FORMS}
    best = {name: [inf] * len(values) for name in ways}
    for _ in range(_ROUNDS):
        for name, form in ways.items():
            for index, value in enumerate(values):
                began = perf_counter()
                form.read(form.write(value))
                best[name][index] = min(best[name][index], perf_counter() - began)
    return best

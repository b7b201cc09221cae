"""What goes to a model, in o200k tokens: remembered facts and the context of a session."""

from collections.abc import Sequence
from itertools import cycle, zip_longest

from benchmarks.optimizer_parts.facts import customers, key_values, nine_fields, told
from benchmarks.optimizer_parts.tables import percent, table
from benchmarks.optimizer_parts.talks import ChatRepl
from luminoracore_sdk.adapters.notation import default_notations
from luminoracore_sdk.adapters.tokens import BpeTokenCounter
from luminoracore_sdk.application.prompt_tokens import prompt_tokens
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message

__all__ = ["token_table"]

Figures = tuple[int, int, int]
"""Tokens: as JSON records, as JSON of what is said, as the SDK writes it."""

_TOKENS = BpeTokenCounter()
_NOTATIONS = default_notations()


def token_table(talks: Sequence[ChatRepl]) -> str:
    """Return a table of tokens against compact JSON, written in two ways.

    As said: of facts key and value (and category), of messages role and content. As records: what
    ``to_dict`` gives, with ids, times and metadata.
    """
    kinds = {
        "facts: key and value": key_values(),
        "facts: whole sentences": told(),
        "facts: sentences with eight more fields": nine_fields(),
        "facts: fields of a customer's record": customers(),
    }
    rows = [_row(name, [_figures((), entries) for entries in people]) for name, people in kinds.items()]
    remembered = cycle(zip_longest(*kinds.values()))
    people = [next(entries for entries in found if entries) for found, _ in zip(remembered, talks, strict=False)]
    figures = [_figures(talk.messages, entries) for talk, entries in zip(talks, people, strict=True)]
    rows.append(_row("context of a session: messages and facts", figures))
    heads = ["", "JSON, as records", "JSON, as said", "the SDK's", "against records", "against what is said"]
    return table(heads, rows)


def _row(name: str, figures: Sequence[Figures]) -> list[str]:
    records, said, ours = (sum(column) for column in zip(*figures, strict=True))
    counts = (f"{count:,}" for count in (records, said, ours))
    return [name, *counts, percent(ours, records), percent(ours, said)]


def _figures(messages: Sequence[Message], entries: list[MemoryEntry]) -> Figures:
    figures = prompt_tokens(messages, entries, _TOKENS, _NOTATIONS)
    if messages:
        return figures.record_json, figures.context_json, figures.context
    records = _TOKENS.count(compact_json([entry.to_dict() for entry in entries]))
    return records, figures.facts_json, figures.facts

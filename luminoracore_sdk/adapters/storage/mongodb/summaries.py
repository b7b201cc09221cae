"""The summary of a session, carried from batch to batch.

**State.** Each batch holds in ``state`` what the summary is once it is appended: the counters, and where the first
and the last brief are. It is exact, because a batch is inserted right behind the batch that its writer has seen in
that epoch. ``base`` in the header is the state in which the open epoch began; the command that opens the epoch
writes it. So the state of a session is that of the newest batch of its open epoch, or else the base.

**Briefs.** The text of a brief is stored once, in ``briefs`` of the batch that holds its message, so that it changes
together with the message, and goes with it; a state refers to that batch. (A settled header has a copy, see
``sessions``.) A text whose message had none when it was
given, by the put that created the session, is in ``briefs`` of the header, until the message is updated, which moves
it to the batch first. A place whose text is gone means that there is no brief.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Self

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.application.ports import records
from luminoracore_sdk.application.ports.records import (
    ROLES,
    Brief,
    MessageRecord,
    Payload,
    SessionSummary,
    stored_brief,
    stored_summary,
    without_zeros,
)

__all__ = ["Place", "State", "counts", "initial_briefs", "pairs", "stored", "stored_payload", "summary_of", "texts_of"]

_NO_PAYLOAD = "a payload is a string or bytes"


@attrs.frozen
class Place:
    """Where a brief is.

    Attributes:
        position: The position of its message.
        batch: The batch that has its text; None: the header has it.
    """

    position: int
    batch: ObjectId | None = None

    @classmethod
    def of(cls, document: Document | None) -> Self | None:
        """Read a place."""
        return None if document is None else cls(document["at"], document.get("in"))

    def stored(self) -> Document:
        """Return the place as it is stored."""
        return {"at": self.position} if self.batch is None else {"at": self.position, "in": self.batch}


@attrs.frozen(kw_only=True)
class State:
    """A summary without texts; see ``SessionSummary``."""

    counters: Mapping[str, int] = attrs.field(factory=dict)
    first: Place | None = None
    last: Place | None = None

    @classmethod
    def initial(cls, summary: SessionSummary) -> Self:
        """Return the state of a session that begins with a summary; the header has its texts."""
        first, last = (None if brief is None else Place(brief.position) for brief in (summary.first, summary.last))
        return cls(counters=summary.counters, first=first, last=last)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Read a state."""
        first, last = Place.of(document.get("first")), Place.of(document.get("last"))
        return cls(counters=counts(document["sum"]), first=first, last=last)

    def stored(self) -> Document:
        """Return the state as it is stored; a counter may have any name, so none is the name of a field."""
        document: Document = {"sum": pairs(self.counters)}
        if self.first is not None:
            document["first"] = self.first.stored()
        if self.last is not None:
            document["last"] = self.last.stored()
        return document

    @property
    def roles(self) -> dict[str, int]:
        """The numbers of messages by role."""
        return {name: number for name, number in self.counters.items() if name in ROLES}

    @property
    def places(self) -> set[int]:
        """The positions of the briefs."""
        return {place.position for place in (self.first, self.last) if place is not None}

    def appended(self, messages: Sequence[MessageRecord], position: int, batch: ObjectId) -> tuple["State", Document]:
        """Return the state once a batch is appended at a position, and the texts that the batch has to hold."""
        first, last, counters, texts = self.first, self.last, dict(self.counters), Document()
        for place, message in enumerate(messages, start=position):
            counters[message.role] = counters.get(message.role, 0) + 1
            for name, number in message.adds.items():
                counters[name] = counters.get(name, 0) + number
            if message.brief is not None:
                last = Place(place, batch)
                texts["last"] = {"at": place, **stored(message.brief)}
                if first is None and message.role == "user":
                    first, texts["first"] = last, texts["last"]
        return State(counters=without_zeros(counters), first=first, last=last), texts

    def cut(self, after: int, roles: Mapping[str, int]) -> Self:
        """Return the state once the messages above a position are removed.

        Args:
            after: The last position that stays.
            roles: The numbers of messages by role up to there.
        """
        counters = {name: number for name, number in self.counters.items() if name not in ROLES}
        counters |= {role: number for role, number in roles.items() if number}
        first, last = (place if place and place.position <= after else None for place in (self.first, self.last))
        return attrs.evolve(self, counters=counters, first=first, last=last)

    def limited(self, summary: SessionSummary) -> Self:
        """Return the state without places whose texts are gone."""
        first = None if summary.first is None else self.first
        return attrs.evolve(self, first=first, last=None if summary.last is None else self.last)

    def placed(self, names: Sequence[str], place: Place) -> Self:
        """Return the state with another place of the first or last brief."""
        first, last = (place if name in names else getattr(self, name) for name in ("first", "last"))
        return attrs.evolve(self, first=first, last=last)


def texts_of(state: Document, held: Document, batches: Mapping[ObjectId, Document]) -> Document:
    """Return the texts of the briefs of a state, both as they are stored; call it in ``readable``.

    Args:
        state: The state.
        held: The texts of the header.
        batches: The texts of batches.
    """
    found = Document()
    for name in ("first", "last"):
        if (place := state.get(name)) is not None:
            text = (batches.get(place["in"], {}) if "in" in place else held).get(name)
            if text is not None and text["at"] == place["at"]:
                found[name] = text
    return found


def summary_of(counters: Sequence[str | int], texts: Document) -> SessionSummary:
    """Return the summary of counters and texts as they are stored; call it in ``readable``."""
    return stored_summary(_brief(texts.get("first")), _brief(texts.get("last")), counts(counters))


def _brief(text: Document | None) -> Brief | None:
    return None if text is None else stored_brief(int(text["at"]), stored_payload(text))


def initial_briefs(summary: SessionSummary) -> Document:
    """Return the texts of a summary as a header stores them."""
    found = (("first", summary.first), ("last", summary.last))
    return {name: {"at": brief.position, **stored(brief.payload)} for name, brief in found if brief is not None}


def pairs(counters: Mapping[str, int]) -> list[str | int]:
    """Return counters as they are stored: name, number, name, number …."""
    return list(chain.from_iterable(counters.items()))


def counts(stored: Sequence[str | int]) -> dict[str, int]:
    """Read counters."""
    return {str(name): int(number) for name, number in zip(stored[::2], stored[1::2], strict=True)}


def stored(payload: Payload) -> Document:
    """Return the two fields of a payload: a string where it is text, so that people can read it."""
    data: str | bytes = payload.data
    if payload.is_text:
        try:
            data = payload.data.decode()
        except UnicodeDecodeError:  # not what the encoding says; the bytes are kept all the same
            data = payload.data
    return {"encoding": payload.encoding, "payload": data}


def stored_payload(document: Document) -> Payload:
    """Return the payload of a document; call it in ``readable``."""
    data = document["payload"]
    if type(data) is str:
        data = data.encode()
    elif type(data) is not bytes:
        raise TypeError(_NO_PAYLOAD)
    return records.stored_payload(document["encoding"], data)

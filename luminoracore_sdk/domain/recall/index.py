"""The index of one scope, in the process: which messages and memories hold which terms."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from math import sqrt

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.terms import Entry

__all__ = ["COUNTED_FROM", "MEMORY", "MESSAGE", "Counts", "Document", "ScopeIndex", "SessionDocuments"]

MESSAGE = "message"
MEMORY = "memory"

_NO_SESSION = 0
_DAY_US = 86_400_000_000

_COUNTED_TERMS = 32
"""Terms whose counts are kept; of 100,000 documents in 2,500 sessions, those of a term take 0.2 MB."""

COUNTED_FROM = 1000
"""Documents that such a term is in."""


@attrs.frozen(kw_only=True)
class Document:
    """A message or a memory entry, without its text.

    Attributes:
        kind: ``MESSAGE`` or ``MEMORY``.
        session_id: Of a message; empty for a memory entry.
        position: Of a message in its session; 0 for a memory entry.
        key: Of a memory entry; empty for a message.
        role: Of a message; empty for a memory entry.
        created_at_us: Microseconds since 1970 in UTC.
        importance: 0 to 1.
    """

    kind: str = MESSAGE
    session_id: str = ""
    position: int = 0
    key: str = ""
    role: str = ""
    created_at_us: int = 0
    importance: float = 0.0


@attrs.frozen
class Counts:
    """How often a term occurs.

    Attributes:
        documents: In each document, by slot.
        sessions: In the messages of each session, by its number.
    """

    documents: bytearray
    sessions: Counter[int]


class SessionDocuments:
    """The documents of one session, in the order of their positions.

    Attributes:
        session_id: The session.
        number: Stands for the session in ``ScopeIndex.owners``.
        positions: Of the documents, ascending.
        slots: Of the same documents.
        length: Terms of all of them.
        days: How many of them were created on each day since 1970.
    """

    __slots__ = ("days", "length", "number", "positions", "session_id", "slots")

    def __init__(self, session_id: str, number: int) -> None:
        self.session_id = session_id
        self.number = number
        self.positions = array("q")
        self.slots = array("I")
        self.length = 0
        self.days: Counter[int] = Counter()


class ScopeIndex:
    """The documents of one scope and the postings of their terms.

    Each document has a slot, a number under which ``lengths``, ``owners`` and the other arrays keep what belongs to it.
    A document that is removed leaves a dead slot, of length 0 and without a session, until dead slots are more than
    ``spare`` and a quarter of all; then the slots are numbered anew. What ``rank`` finds depends on the documents
    only, not on the order in which they were added, replaced and removed.

    100,000 messages of 130 characters take about 30 MB, and as many bytes as the vectors have. An index is for
    one event loop or thread at a time.

    Args:
        model: The code of the model whose vectors are kept; None: no vectors are.
        spare: Dead slots that are always put up with.
        capacity: Upper bound on the documents, at most 16,777,216.
    """

    def __init__(self, *, model: bytes | None = None, spare: int = 1000, capacity: int = 1 << 24) -> None:
        self.model = model
        self._spare = spare
        self._capacity = capacity
        self.dimension = 0
        self.once: dict[int, array[int]] = {}
        """By term, the slots of the documents that hold it once."""
        self.often: dict[int, array[int]] = {}
        """By term, slot × 256 + frequency of the documents that hold it more often."""
        self.lengths = array("I")
        self.owners = array("I")
        self.positions = array("q")
        self.times = array("q")
        self.roles = array("I")
        self.importances = array("d")
        self.norms = array("d")
        self.vectors = bytearray()
        self.sessions: dict[str, SessionDocuments] = {}
        self.numbered: list[SessionDocuments] = [SessionDocuments("", _NO_SESSION)]
        """Sessions by number. Number 0 is for memory entries and dead slots; removed sessions stay, empty."""
        self.role_names: list[str] = [""]
        self.known_lengths = {0}
        self.message_terms = 0
        self.memory_terms = 0
        self.dead = 0
        self._role_numbers = {"": 0}
        self._memories: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._free_numbers: list[int] = []
        self._live = bytearray()
        self._counts: dict[int, Counts] = {}

    def __len__(self) -> int:
        return len(self._live) - self.dead

    def add(self, document: Document, entry: Entry) -> None:
        """Add a document, or replace the one of the same session and position, or of the same key.

        Args:
            document: A message or a memory entry.
            entry: Its terms, and its vector if it is of this index's model.

        Raises:
            ValidationError: The vector has another dimension than those before it, or the index is full; nothing was
                changed.
        """
        vector = entry.vector if entry.vector is not None and entry.vector.model == self.model else None
        if vector is not None and self.dimension not in {0, len(vector.values)}:
            raise ValidationError(f"a vector has {len(vector.values)} dimensions; those before have {self.dimension}")
        if len(self) >= self._capacity:
            raise ValidationError(f"the index of a scope takes {self._capacity:,} documents")
        if document.kind == MEMORY:
            self.remove_memory(document.key)
        else:
            self.remove_message(document.session_id, document.position)
        if len(self._live) >= self._capacity:
            self._rebuild()
        slot = len(self._live)
        self._add_slot(document, vector.values if vector else b"")
        self._add_terms(slot, entry)
        length = self.lengths[slot]
        if document.kind == MEMORY:
            self._memories[document.key] = slot
            self._keys[slot] = document.key
            self.owners.append(_NO_SESSION)
            self.memory_terms += length
        else:
            session = self._session(document.session_id)
            self.owners.append(session.number)
            at = len(session.positions)
            if at and session.positions[-1] > document.position:
                at = bisect_left(session.positions, document.position)
            session.positions.insert(at, document.position)
            session.slots.insert(at, slot)
            session.length += length
            for term in self._counts.keys() & entry.frequencies.keys():
                self._counts[term].sessions[session.number] += entry.frequencies[term]
            session.days[document.created_at_us // _DAY_US] += 1
            self.message_terms += length

    def remove_message(self, session_id: str, position: int) -> None:
        """Remove a message, if it is there."""
        self._remove(session_id, position, position + 1)

    def cut(self, session_id: str, *, after: int) -> None:
        """Remove the messages of a session behind a position."""
        self._remove(session_id, after + 1, None)

    def remove_session(self, session_id: str) -> None:
        """Remove all messages of a session."""
        self.cut(session_id, after=0)

    def remove_memory(self, key: str) -> None:
        """Remove a memory entry, if it is there."""
        slot = self._memories.pop(key, None)
        if slot is not None:
            del self._keys[slot]
            self.memory_terms -= self.lengths[slot]
            self._kill(slot)
            self._rebuild_if_sparse()

    def document(self, slot: int) -> Document:
        """Return the document of a live slot."""
        key = self._keys.get(slot)
        return Document(
            kind=MESSAGE if key is None else MEMORY,
            session_id=self.numbered[self.owners[slot]].session_id,
            position=self.positions[slot],
            key=key or "",
            role=self.role_names[self.roles[slot]],
            created_at_us=self.times[slot],
            importance=self.importances[slot],
        )

    def order(self, slot: int) -> tuple[int, str, str]:
        """Return what orders documents of equal scores: position, session, key."""
        return self.positions[slot], self.numbered[self.owners[slot]].session_id, self._keys.get(slot, "")

    def frequency(self, term: int, slot: int) -> int:
        """Return how often a document holds a term."""
        once, often = self.once.get(term), self.often.get(term)
        if once is not None:
            at = bisect_left(once, slot)
            if at < len(once) and once[at] == slot:
                return 1
        if often is not None:
            at = bisect_left(often, slot << 8)
            if at < len(often) and often[at] >> 8 == slot:
                return often[at] & 255
        return 0

    def documents(self) -> Iterator[Document]:
        """Yield all documents, in no particular order."""
        return map(self.document, self.live_slots())

    def live_slots(self) -> Iterator[int]:
        """Yield the slots of all documents."""
        return (slot for slot, live in enumerate(self._live) if live)

    def memory_slots(self) -> Iterable[int]:
        """Return the slots of all memory entries."""
        return self._keys

    def document_frequency(self, term: int) -> int:
        """Return the number of documents that hold a term."""
        once, often = self.once.get(term, ()), self.often.get(term, ())
        if not self.dead:
            return len(once) + len(often)
        live = self._live
        return sum(map(live.__getitem__, once)) + sum(live[posting >> 8] for posting in often)

    def counts(self, term: int) -> Counts:
        """Return how often a term occurs; of the latest frequent terms, it is kept until a document is removed."""
        found = self._counts.pop(term, None)
        if found is None:
            found = Counts(bytearray(len(self._live)), Counter())
            documents, once, often = found.documents, self.once.get(term, ()), self.often.get(term, ())
            for slot in once:
                documents[slot] = 1
            found.sessions.update(map(self.owners.__getitem__, once))
            for posting in often:
                slot, count = posting >> 8, posting & 255
                documents[slot] = count
                found.sessions[self.owners[slot]] += count
            del found.sessions[_NO_SESSION]
            if len(once) + len(often) < COUNTED_FROM:
                return found
            if len(self._counts) >= _COUNTED_TERMS:
                del self._counts[next(iter(self._counts))]
        self._counts[term] = found
        return found

    def _session(self, session_id: str) -> SessionDocuments:
        session = self.sessions.get(session_id)
        if session is None:
            number = self._free_numbers.pop() if self._free_numbers else len(self.numbered)
            session = self.sessions[session_id] = SessionDocuments(session_id, number)
            self.numbered[number : number + 1] = [session]
        return session

    def _add_slot(self, document: Document, vector: bytes) -> None:
        role = self._role_numbers.setdefault(document.role, len(self.role_names))
        if role == len(self.role_names):
            self.role_names.append(document.role)
        self._live.append(1)
        self.positions.append(document.position)
        self.times.append(document.created_at_us)
        self.importances.append(document.importance)
        self.roles.append(role)
        if vector and not self.dimension:
            self.dimension = len(vector)
            self.vectors = bytearray(self.dimension * (len(self._live) - 1))
        self.vectors += vector or bytes(self.dimension)
        self.norms.append(sqrt(sum(value * value for value in memoryview(vector).cast("b"))))

    def _add_terms(self, slot: int, entry: Entry) -> None:
        length = 0
        for term, count in entry.frequencies.items():
            length += count
            postings, posting = (self.once, slot) if count == 1 else (self.often, slot << 8 | count)
            held = postings.get(term)
            if held is None:
                postings[term] = array("I", (posting,))
            else:
                held.append(posting)
        for term, counts in self._counts.items():
            counts.documents.append(entry.frequencies.get(term, 0))
        self.lengths.append(length)
        self.known_lengths.add(length)

    def _remove(self, session_id: str, first: int, end: int | None) -> None:
        """Remove the messages of a session from one position to before another."""
        session = self.sessions.get(session_id)
        if session is None:
            return
        low = bisect_left(session.positions, first)
        high = len(session.positions) if end is None else bisect_left(session.positions, end)
        for slot in session.slots[low:high]:
            session.length -= self.lengths[slot]
            self.message_terms -= self.lengths[slot]
            day = self.times[slot] // _DAY_US
            session.days[day] -= 1
            if not session.days[day]:
                del session.days[day]
            self._kill(slot)
        del session.positions[low:high], session.slots[low:high]
        if not session.slots:
            del self.sessions[session_id]
            self._free_numbers.append(session.number)
        self._rebuild_if_sparse()

    def _kill(self, slot: int) -> None:
        # a dead slot scores nothing in the loops of ``rank``, which therefore need not ask
        self.lengths[slot] = 0
        self.owners[slot] = _NO_SESSION
        self.norms[slot] = 0.0
        self._live[slot] = 0
        self._counts.clear()
        self.dead += 1

    def _rebuild_if_sparse(self) -> None:
        if self.dead > max(self._spare, len(self._live) // 4):
            self._rebuild()

    def _rebuild(self) -> None:
        """Number the slots anew, without the dead ones."""
        kept = array("I", self.live_slots())
        new = dict(zip(kept, range(len(kept)), strict=True))
        for postings, shift in ((self.once, 0), (self.often, 8)):
            rest = (1 << shift) - 1
            for term, held in list(postings.items()):
                live = array("I", [new[at >> shift] << shift | at & rest for at in held if at >> shift in new])
                if live:
                    postings[term] = live
                else:
                    del postings[term]
        if self.dimension:
            size = self.dimension
            self.vectors = bytearray().join(self.vectors[slot * size : (slot + 1) * size] for slot in kept)
        for name in ("lengths", "owners", "positions", "times", "roles", "importances", "norms"):
            held = getattr(self, name)
            setattr(self, name, array(held.typecode, [held[slot] for slot in kept]))
        for session in self.sessions.values():
            session.slots = array("I", [new[slot] for slot in session.slots])
        self._memories = {key: new[slot] for key, slot in self._memories.items()}
        self._keys = {slot: key for key, slot in self._memories.items()}
        self._live = bytearray(b"\1" * len(kept))
        self.known_lengths = {0, *self.lengths}
        self.dead = 0

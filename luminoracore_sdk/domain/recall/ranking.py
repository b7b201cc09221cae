"""The ranking: which documents of a scope answer a query, and in which order.

The score of a message is the sum of

- its **text**: BM25 (Robertson and Zaragoza, 2009) of the query's terms in the message;
- its **similarity**: how far the angle between its vector and the query's lies from the average of the scope, in
  standard deviations of the texts' scores, so that both lists weigh the same whatever their scales;
- its **neighbours**: the same two of the messages around it, with falling weights. An answer seldom repeats the
  words of its question;
- its **session**: BM25 of the query's terms in all of the session, as if it were one document;
- its **dates**: the years, months and days that the query names and on which the session has messages.

A memory entry has neither neighbours nor a session; its text and similarity are multiplied instead. Scores are
then multiplied for recency and importance, where that is asked for.

The weights were tuned on five conversations of LoCoMo (Maharana et al., 2024): see ``benchmarks/recall.py``.
Every sum has a fixed order or is one of integers: the same documents give the same scores to the last bit,
whatever the order in which they were added.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nlargest, nsmallest
from itertools import compress
from math import fsum, log, sqrt
from operator import mul

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.analyzer import Analyzer
from luminoracore_sdk.domain.recall.dates import DatePart, parts_of_day, parts_of_text
from luminoracore_sdk.domain.recall.index import COUNTED_FROM, MEMORY, MESSAGE, Document, ScopeIndex
from luminoracore_sdk.domain.recall.terms import Vector, term_hash

__all__ = [
    "COSINE_UNIT",
    "DEFAULT_WEIGHTS",
    "EVERYTHING",
    "Cosines",
    "Filter",
    "Query",
    "Ranked",
    "ScoreParts",
    "Weights",
    "cosines",
    "rank",
]

MAX_QUERY_TERMS = 64
"""Terms of a query that count; of more, the rarest in the scope."""

SEEDS = 200
"""Documents with the best text, similarity and session whose neighbourhoods are scored in full."""

COSINE_UNIT = 1 << 19
"""Cosines are whole numbers of this fraction: their sums and squares are exact in any order, in 64 bits too."""

_FEW = 4
"""Terms whose weights are together less than this part of those before them may be left to few documents."""

_SINGLE = 4
"""To add a term to one document takes as long as so many of its postings."""

Cosines = Callable[[bytearray, "array[float]", bytes], Sequence[int]]
"""Returns what ``cosines`` returns."""


def _share(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not 0 <= value <= 1:
        raise ValidationError(f"{attribute.name} {value!r} is not between 0 and 1")


@attrs.frozen(kw_only=True)
class Weights:
    """How the parts of a score count.

    Attributes:
        k1: BM25: how soon a term that is repeated stops to count more.
        b: BM25: how far long texts are held to be wordy, 0 to 1.
        session_k1: ``k1`` of sessions.
        similarity: Of the similarity.
        neighbours: Of the nearest messages on both sides, of those behind them, and so on.
        session: Of the session.
        dates: Of the dates.
        memory: Factor of memory entries.
        recency: How much more a document of now counts than a very old one: 0.2 is a fifth more.
        half_life_days: Age at which half of that is left.
        importance: How much more a document of importance 1 counts than one of 0.
    """

    k1: float = 1.2
    b: float = 0.75
    session_k1: float = 2.0
    similarity: float = 1.0
    neighbours: tuple[float, ...] = (0.5, 0.25)
    session: float = 1.0
    dates: float = 1.0
    memory: float = 3.0
    recency: float = attrs.field(default=0.0, validator=_share)
    half_life_days: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    importance: float = attrs.field(default=0.0, validator=_share)


DEFAULT_WEIGHTS = Weights()


@attrs.frozen(kw_only=True)
class Filter:
    """Which documents may be found. Others still count as neighbours, and in the frequencies of terms.

    Attributes:
        kinds: ``MESSAGE``, ``MEMORY``; None: both.
        session_ids: Sessions of messages; memory entries are of no session. None: any document.
        roles: Roles of messages; memory entries have none and pass. None: any.
        since_us: Earliest time of creation, inclusive; None: any.
        until_us: Latest time of creation, exclusive; None: any.
    """

    kinds: Collection[str] | None = None
    session_ids: Collection[str] | None = None
    roles: Collection[str] | None = None
    since_us: int | None = None
    until_us: int | None = None


EVERYTHING = Filter()


@attrs.frozen(kw_only=True)
class Query:
    """What is looked for.

    Attributes:
        terms: The different terms, by their hashes, in the order of the text.
        dates: The parts of dates that the text names.
        vector: Of the text; None: the text alone decides.
    """

    terms: Mapping[int, str]
    dates: Sequence[DatePart] = ()
    vector: Vector | None = None

    @classmethod
    def of(cls, text: str, analyzer: Analyzer, vector: Vector | None = None) -> "Query":
        """Return the query of a text, every character of which is plain text: there are no operators.

        Args:
            text: Any string; of a long one, its beginning, as for messages.
            analyzer: That of the index.
            vector: Of the same text.
        """
        return cls(
            terms={term_hash(term): term for term in analyzer.terms(text)},
            dates=parts_of_text(text, analyzer.months),
            vector=vector,
        )


@attrs.frozen(kw_only=True)
class ScoreParts:
    """Where a score comes from.

    It is ``(text + similarity + neighbours + session + dates) * recency * importance`` of a message, and
    ``(text + similarity) * memory * recency * importance`` of a memory entry; a score below 0 is not multiplied by
    the last two.

    Attributes:
        text: BM25 of the document.
        terms: Share of each term in it.
        similarity: Of the vectors, weighted.
        neighbours: Share of the messages around it.
        around: That share by position.
        session: Share of the session.
        dates: Share of the dates.
        memory: Factor, 1 for a message.
        recency: Factor, 1 or more.
        importance: Factor, 1 or more.
    """

    text: float
    terms: Mapping[str, float]
    similarity: float
    neighbours: float
    around: Mapping[int, float]
    session: float
    dates: float
    memory: float
    recency: float
    importance: float


@attrs.frozen(kw_only=True)
class Ranked:
    """A document that was found.

    Attributes:
        document: The document.
        score: Comparable within one list only.
        parts: Where the score comes from; None unless ``explain`` was set.
    """

    document: Document
    score: float
    parts: ScoreParts | None = None


def cosines(matrix: bytearray, norms: "array[float]", vector: bytes) -> list[int]:
    """Return the cosines of the angles between the rows of a matrix and a vector, in ``COSINE_UNIT``.

    Without numpy it takes 10 ms per 1,000 rows of 256.

    Args:
        matrix: Rows of signed bytes.
        norms: The lengths of the rows; the cosine of a row of length 0 is 0.
        vector: Signed bytes, as many as a row has.
    """
    values = memoryview(vector).cast("b").tolist()
    rows = memoryview(matrix).cast("b")
    size = len(values)
    length = sqrt(sum(map(mul, values, values))) or 1.0
    products = (sum(map(mul, rows[start : start + size], values)) for start in range(0, len(rows), size))
    return [
        round(product / (norm * length) * COSINE_UNIT) if norm else 0
        for product, norm in zip(products, norms, strict=True)
    ]


def rank(
    index: ScopeIndex,
    query: Query,
    *,
    limit: int,
    weights: Weights = DEFAULT_WEIGHTS,
    only: Filter = EVERYTHING,
    now_us: int = 0,
    compare: Cosines = cosines,
    explain: bool = False,
) -> list[Ranked]:
    """Return the documents that answer a query, the best first; equal scores by position, then by session or key.

    A document is found if it, or a message near it, has a term of the query or is similar to it. Scored in full are
    the neighbourhoods of the 200 (or ``limit``) documents with the best text, session and dates, and of as many with
    the best similarity; with a filter, of as many that it lets through and as many others of the same sessions.

    Args:
        index: The documents of the scope.
        query: What is looked for.
        limit: Upper bound on the documents.
        weights: Of the parts of a score.
        only: Which documents may be found.
        now_us: The present, in microseconds since 1970, for ``weights.recency``.
        compare: A faster ``cosines``, with numpy.
        explain: Set ``Ranked.parts``.
    """
    if not len(index) or limit < 1:
        return []
    passing = _Passing(index, only) if only != EVERYTHING else None
    seeds = max(limit, SEEDS)
    scores = _Scores(index, query, weights, compare, most=seeds if passing is None else None)
    found = scores.candidates(seeds, passing)
    scored = [(-scores.score(slot, now_us), index.order(slot), slot) for slot in found]
    return [
        Ranked(
            document=index.document(slot),
            score=-negative,
            parts=scores.parts(slot, now_us) if explain else None,
        )
        for negative, _, slot in nsmallest(limit, scored)
    ]


class _Scores:
    """The scores of one query.

    Args:
        index: The documents of the scope.
        query: What is looked for.
        weights: Of the parts of a score.
        compare: Compares vectors.
        most: How many documents with the best text, session and dates ``candidates`` asks for; None: those of a filter.
    """

    def __init__(
        self, index: ScopeIndex, query: Query, weights: Weights, compare: Cosines, *, most: int | None
    ) -> None:
        self._index = index
        self._weights = weights
        self._names = query.terms
        frequencies = {term: count for term in query.terms if (count := index.document_frequency(term))}
        rarest = sorted(frequencies, key=lambda term: (frequencies[term], term))[:MAX_QUERY_TERMS]
        self._frequencies = {term: frequencies[term] for term in rarest}
        self._idf = {term: _idf(len(index), frequencies[term]) for term in rarest}
        average = (index.message_terms + index.memory_terms) / len(index) or 1.0
        self._norms = [0.0] * (max(index.known_lengths) + 1)
        for length in index.known_lengths:
            self._norms[length] = weights.k1 * (1 - weights.b + weights.b * length / average)
        self._session = [0.0] * len(index.numbered)
        self._score_sessions()
        self._dates = [0.0] * len(index.numbered)
        self._score_dates(query.dates)
        self._prior = [session + dates for session, dates in zip(self._session, self._dates, strict=True)]
        vector = query.vector if query.vector is not None and query.vector.model == index.model else None
        is_compared = vector is not None and index.dimension > 0
        self._text = [0.0] * len(index.lengths)
        self._left: list[tuple[float, bytearray]] = []
        self._whole: set[int] = set()
        self._matching = self._score_texts(None if is_compared else most)
        self._cosines: Sequence[int] = ()
        self._compared: list[int] = []
        self._mean = self._scale = 0.0
        if vector is not None and is_compared:
            self._compare_vectors(vector, compare)

    def candidates(self, seeds: int, passing: "_Passing | None") -> set[int]:
        """Return the slots to be scored in full, which all pass."""
        index = self._index
        chosen: list[int] = []
        for slots, best in ((self._matching, self._best_texts), (self._compared, self._most_similar)):
            if passing is None:
                chosen += best(slots, seeds)
            else:  # a document that does not pass may be the neighbour of one that does
                inside = list(filter(passing.is_inside, slots))
                passed = set(filter(passing.passes, inside))
                chosen += best(list(passed), seeds) + best([slot for slot in inside if slot not in passed], seeds)
        found = set(chosen)
        reach = len(self._weights.neighbours)
        for slot in chosen:
            session = index.numbered[index.owners[slot]]
            at = bisect_left(session.positions, index.positions[slot])
            found.update(session.slots[max(0, at - reach) : at + reach + 1])
        return found if passing is None else set(filter(passing.passes, found))

    def score(self, slot: int, now_us: int) -> float:
        """Return the score of a document."""
        total = self._own(slot)
        if owner := self._index.owners[slot]:
            total += sum(self._around(slot).values())
            total += self._session[owner]
            total += self._dates[owner]
        else:
            total *= self._weights.memory
        recency, importance = self._factors(slot, now_us)
        return total * recency * importance if total > 0 else total

    def parts(self, slot: int, now_us: int) -> ScoreParts:
        """Return the parts of a document's score."""
        owner = self._index.owners[slot]
        around = self._around(slot)
        recency, importance = self._factors(slot, now_us)
        return ScoreParts(
            text=self._text[slot],
            terms={self._names[term]: share for term, share in self._shares(slot)},
            similarity=self._similarity(slot),
            neighbours=sum(around.values(), 0.0),
            around=around,
            session=self._session[owner],
            dates=self._dates[owner],
            memory=1.0 if owner else self._weights.memory,
            recency=recency,
            importance=importance,
        )

    def _score_texts(self, most: int | None) -> list[int]:
        """Score the texts, by the rarest terms first, and return the slots of those that match.

        Once few documents can be among the best whatever the frequent terms add, only their slots are returned, and
        these terms are left to ``_complete``.
        """
        terms, gained = list(self._idf), 0.0
        for number, term in enumerate(terms):
            left = sum(self._idf[one] for one in terms[number:])
            if most is not None and self._frequencies[term] >= COUNTED_FROM and left * _FEW < gained:
                postings = sum(self._frequencies[one] for one in terms[number:])
                near = self._near(left * (self._weights.k1 + 1), most, postings // _SINGLE)
                if near is not None:
                    self._left = [(self._idf[one], self._index.counts(one).documents) for one in terms[number:]]
                    return [slot for slot in near if self._complete(slot)]
            self._score_term(term)
            gained += self._idf[term]
        return list(compress(range(len(self._text)), self._text))

    def _score_term(self, term: int) -> None:
        """Add the share of a term to the score of each text that holds it."""
        index, k1, idf, scores = self._index, self._weights.k1, self._idf[term], self._text
        lengths, norms = index.lengths, self._norms
        once = [idf * ((k1 + 1) / (1 + norm)) for norm in norms]
        once[0] = 0.0  # of dead slots
        for slot in index.once.get(term, ()):
            scores[slot] += once[lengths[slot]]
        for posting in index.often.get(term, ()):
            slot, count = posting >> 8, posting & 255
            if length := lengths[slot]:
                scores[slot] += idf * (count * (k1 + 1) / (count + norms[length]))

    def _near(self, gain: float, most: int, fewer: int) -> set[int] | None:
        """Return the slots that may be among the best once a text gains so much at most; None: these are too many."""
        index, owners, prior = self._index, self._index.owners, self._prior
        matching = list(compress(range(len(self._text)), self._text))
        if len(matching) < most:
            return None
        scores = self._with_prior(matching)
        least = nlargest(most, scores)[-1] * (1 - 1e-9)  # more than rounding loses
        of_memory, of_message = least - gain * self._weights.memory, least - gain
        sessions = [session.slots for session in index.sessions.values() if prior[session.number] >= of_message]
        if sum(map(len, sessions)) >= fewer:
            return None
        near = {
            slot
            for slot, score in zip(matching, scores, strict=True)
            if score >= (of_message if owners[slot] else of_memory)
        }
        near.update(*sessions, index.memory_slots() if of_memory <= 0 else ())
        return near if len(near) < fewer else None

    def _complete(self, slot: int) -> float:
        """Return the score of a text once the terms that are left are added."""
        text = self._text
        if self._left and slot not in self._whole:
            self._whole.add(slot)
            k1, norm = self._weights.k1, self._norms[self._index.lengths[slot]]
            for idf, counts in self._left:
                if count := counts[slot]:
                    text[slot] += idf * (count * (k1 + 1) / (count + norm))
        return text[slot]

    def _shares(self, slot: int) -> Iterable[tuple[int, float]]:
        """Yield what each term adds to the text's score."""
        index, k1 = self._index, self._weights.k1
        for term, idf in self._idf.items():
            count = index.frequency(term, slot)
            if count:
                yield term, idf * (count * (k1 + 1) / (count + self._norms[index.lengths[slot]]))

    def _score_sessions(self) -> None:
        index, weights = self._index, self._weights
        average = index.message_terms / max(1, len(index.sessions)) or 1.0
        k1, scores = weights.session_k1, self._session
        norms = [k1 * (1 - weights.b + weights.b * session.length / average) for session in index.numbered]
        for term in self._idf:
            counts = index.counts(term).sessions
            idf = weights.session * _idf(len(index.sessions), len(counts))
            for number, count in counts.items():
                scores[number] += idf * (count * (k1 + 1) / (count + norms[number]))

    def _score_dates(self, dates: Sequence[DatePart]) -> None:
        sessions = self._index.sessions
        for part in dates:
            held = [item.number for item in sessions.values() if any(part in parts_of_day(day) for day in item.days)]
            idf = self._weights.dates * _idf(len(sessions), len(held))
            for number in held:
                self._dates[number] += idf

    def _compare_vectors(self, vector: Vector, compare: Cosines) -> None:
        index = self._index
        if len(vector.values) != index.dimension:
            raise ValidationError(f"the query's vector has {len(vector.values)} dimensions, not {index.dimension}")
        self._cosines = compare(index.vectors, index.norms, vector.values)
        self._compared = list(compress(range(len(self._cosines)), index.norms))
        count, total = len(self._compared) or 1, sum(self._cosines)
        deviation = sqrt(count * sum(map(mul, self._cosines, self._cosines)) - total * total) / count
        self._mean = total / count
        if deviation:
            self._scale = self._weights.similarity * _deviation(self._text, len(index)) / deviation

    def _similarity(self, slot: int) -> float:
        """Return the weighted similarity of a document: 0 if it is average, and if there is no vector."""
        if not self._cosines or not self._index.norms[slot]:
            return 0.0
        return self._scale * (self._cosines[slot] - self._mean)

    def _own(self, slot: int) -> float:
        return self._complete(slot) + self._similarity(slot)

    def _best_texts(self, slots: Sequence[int], most: int) -> list[int]:
        """Return the slots of the best documents by text, session and dates."""
        return self._best(slots, self._with_prior(slots), most)

    def _with_prior(self, slots: Sequence[int]) -> list[float]:
        text, owners, prior, factor = self._text, self._index.owners, self._prior, self._weights.memory
        return [text[slot] + prior[owner] if (owner := owners[slot]) else text[slot] * factor for slot in slots]

    def _most_similar(self, slots: Sequence[int], most: int) -> list[int]:
        """Return the slots of the most similar documents."""
        return self._best(slots, list(map(self._cosines.__getitem__, slots)), most)

    def _best(self, slots: Sequence[int], scores: Sequence[float], most: int) -> list[int]:
        """Return the slots of the best scores."""
        if len(slots) <= most:
            return list(slots)
        last = nlargest(most, scores)[-1]
        reached = [(score, slot) for slot, score in zip(slots, scores, strict=True) if score >= last]
        better = [slot for score, slot in reached if score > last]
        equal = [slot for score, slot in reached if score == last]
        return better + nsmallest(most - len(better), equal, key=self._index.order)

    def _around(self, slot: int) -> dict[int, float]:
        """Return what the neighbours of a message add, by their positions."""
        session = self._index.numbered[self._index.owners[slot]]
        slots, positions = session.slots, session.positions
        at = bisect_left(positions, self._index.positions[slot])
        around = {}
        for distance, weight in enumerate(self._weights.neighbours, 1):
            for place in (at - distance, at + distance):
                if 0 <= place < len(slots):
                    around[positions[place]] = weight * self._own(slots[place])
        return around

    def _factors(self, slot: int, now_us: int) -> tuple[float, float]:
        index, weights = self._index, self._weights
        recency = 1.0
        if weights.recency:
            age_days = max(0, now_us - index.times[slot]) / 86_400_000_000
            recency += weights.recency * 0.5 ** (age_days / weights.half_life_days)
        return recency, 1.0 + weights.importance * index.importances[slot]


def _idf(documents: int, frequency: int) -> float:
    return log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def _deviation(scores: Sequence[float], count: int) -> float:
    """Return the standard deviation of scores; 1 if all are 0, so that similarity alone decides."""
    positive = list(filter(None, scores))
    mean = fsum(positive) / count
    return sqrt(max(0.0, fsum(map(mul, positive, positive)) / count - mean * mean)) or 1.0


class _Passing:
    """Which slots a filter lets through."""

    def __init__(self, index: ScopeIndex, only: Filter) -> None:
        self._index = index
        self._only = only
        kinds = only.kinds if only.kinds is not None else (MESSAGE, MEMORY)
        named = index.sessions if only.session_ids is None else index.sessions.keys() & set(only.session_ids)
        self._owners = {index.sessions[session_id].number for session_id in named} if MESSAGE in kinds else set()
        if MEMORY in kinds and only.session_ids is None:
            self._owners.add(0)
        self._roles = {
            number for number, name in enumerate(index.role_names) if only.roles is None or name in only.roles
        }

    def is_inside(self, slot: int) -> bool:
        """Return whether a document is of a session, or of a kind, that may be found."""
        return self._index.owners[slot] in self._owners

    def passes(self, slot: int) -> bool:
        """Return whether a document may be found."""
        index, only = self._index, self._only
        return (
            index.owners[slot] in self._owners
            and (not index.owners[slot] or index.roles[slot] in self._roles)
            and (only.since_us is None or index.times[slot] >= only.since_us)
            and (only.until_us is None or index.times[slot] < only.until_us)
        )

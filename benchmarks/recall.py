"""How many of the messages that answer a question are among the first ten that recall finds.

    python -m benchmarks.recall --data locomo.json [--semantic] [--captions] [--no-times] [--leave-one-out]
    python -m benchmarks.recall --data locomo.json --peers [--write]

The file has the format of LoCoMo (Maharana et al., ACL 2024), which is for measuring only and not part of this
repository. Each conversation is one scope, each turn a message ``{speaker}: {text}``; with ``--captions`` the
caption of a shared picture is part of it. The messages carry the times of their sessions; without those
(``--no-times``), a question that names a date is answered by its words alone.

A question counts if it has evidence; recall@10 is the share of its evidence among the first ten messages, R@5 by
session the share of the sessions with evidence among the first five that the messages found belong to. Figures
are averages over questions. Category 5 asks for what was never said, with the turns it is mistaken for as
evidence: the totals are given with and without it. SQLite's FTS5 (porter, bm25) runs on the same messages.

With ``--peers``, so do PostgreSQL's ranking functions, on a server, and what agent frameworks search messages with,
each in an environment and a process of its own. Ours and FTS5 run in this process. Vectors are computed beforehand,
the same for all that use them. ``--write`` puts the table into the documentation.
"""

import argparse
import asyncio
import json
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import attrs

from benchmarks.optimizer_parts.tables import put_into, table
from benchmarks.peer_parts.environments import python_of
from benchmarks.peer_parts.pins import system_of
from benchmarks.recall_parts.peers import SEARCH_CASES, TS_RANKS, PeerSearch, searched_by, ts_ranked
from benchmarks.speed_parts.backends import BACKENDS
from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.embedders import WordLlamaEmbedder
from luminoracore_sdk.adapters.vectors import numpy_cosines
from luminoracore_sdk.domain.recall.index import Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import DEFAULT_WEIGHTS, Query, Weights, rank
from luminoracore_sdk.domain.recall.terms import Vector, encode, entry_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "recall.md"
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop", 5: "adversarial"}
FIRST = 10
SESSIONS = 5
LISTED = 200

Place = tuple[str, int]
"""A session and a position in it."""


@attrs.frozen(kw_only=True)
class Turn:
    place: Place
    text: str
    created_at_us: int


@attrs.frozen(kw_only=True)
class Question:
    text: str
    evidence: frozenset[Place]
    category: int


@attrs.frozen(kw_only=True)
class Conversation:
    turns: Sequence[Turn]
    questions: Sequence[Question]

    @property
    def sessions(self) -> dict[str, list[str]]:
        """The texts of each session; the first has position 1."""
        texts: dict[str, list[str]] = {}
        for turn in self.turns:
            texts.setdefault(turn.place[0], []).append(turn.text)
        return texts


@attrs.frozen(kw_only=True)
class Answer:
    """What one question found.

    Attributes:
        recall: Share of the evidence among the first ten messages.
        session_recall: Share of its sessions among the first five.
        seconds: Of the query.
    """

    category: int
    recall: float
    session_recall: float
    seconds: float


Search = Callable[[str, int], list[Place]]
"""Returns the messages that a question finds, the best first."""


def read(path: Path, *, captions: bool, times: bool) -> list[Conversation]:
    return [conversation(item, captions=captions, times=times) for item in json.loads(path.read_text("utf-8"))]


def conversation(item: dict[str, Any], *, captions: bool, times: bool) -> Conversation:
    turns: list[Turn] = []
    places: dict[str, Place] = {}
    sessions = item["conversation"]
    for name in sorted((key for key in sessions if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:])):
        at = datetime.strptime(sessions[f"{name}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for position, turn in enumerate(sessions[name], 1):
            places[turn["dia_id"]] = place = (name, position)
            caption = f" [{turn['blip_caption']}]" if captions and turn.get("blip_caption") else ""
            text = f"{turn['speaker']}: {turn['text']}{caption}"
            created_at_us = int(at.timestamp()) * 1_000_000 if times else 0
            turns.append(Turn(place=place, text=text, created_at_us=created_at_us))
    questions = []
    for asked in item["qa"]:
        ids = re.findall(r"D\d+:\d+", " ".join(asked.get("evidence", [])))  # some strings name several turns
        if evidence := frozenset(places[name] for name in ids if name in places):
            questions.append(Question(text=asked["question"], evidence=evidence, category=asked["category"]))
    return Conversation(turns=turns, questions=questions)


@attrs.frozen(kw_only=True)
class Recall:
    """Our index of one conversation."""

    index: ScopeIndex
    vectors: dict[str, Vector]
    bytes_per_text_byte: float

    def search(self, weights: Weights) -> Search:
        analyzer = make_analyzer()

        def run(question: str, limit: int) -> list[Place]:
            query = Query.of(question, analyzer, self.vectors.get(question))
            found = rank(self.index, query, limit=limit, weights=weights, compare=numpy_cosines)
            return [(hit.document.session_id, hit.document.position) for hit in found]

        return run


async def indexed(item: Conversation, embedder: WordLlamaEmbedder | None) -> Recall:
    analyzer = make_analyzer()
    texts = [turn.text for turn in item.turns] + [question.text for question in item.questions]
    vectors: dict[str, Vector] = {}
    if embedder is not None:
        rows = await embedder.embed_passages(texts)
        vectors = {text: Vector.of(embedder.model_id, row) for text, row in zip(texts, rows, strict=True)}
    index = ScopeIndex(model=next(iter(vectors.values())).model if vectors else None)
    size = 0
    for turn in item.turns:
        session_id, position = turn.place
        entry = entry_of(analyzer.terms(turn.text), vectors.get(turn.text))
        size += len(encode(entry, analyzer))
        document = Document(session_id=session_id, position=position, role="user", created_at_us=turn.created_at_us)
        index.add(document, entry)
    share = size / sum(len(turn.text.encode()) for turn in item.turns)
    return Recall(index=index, vectors=vectors, bytes_per_text_byte=share)


def fts5(item: Conversation) -> Search:
    base = sqlite3.connect(":memory:")
    base.execute("CREATE VIRTUAL TABLE turns USING fts5(text, tokenize = 'porter unicode61')")
    base.executemany("INSERT INTO turns (rowid, text) VALUES (?, ?)", enumerate((turn.text for turn in item.turns), 1))

    def run(question: str, limit: int) -> list[Place]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        rows = base.execute(
            "SELECT rowid FROM turns WHERE turns MATCH ? ORDER BY bm25(turns), rowid LIMIT ?", (words, limit)
        )
        return [item.turns[number - 1].place for (number,) in rows]

    return run


def asked(item: Conversation, search: Search) -> list[Answer]:
    answers = []
    for question in item.questions:
        begun = time.perf_counter()
        found = search(question.text, FIRST)
        seconds = time.perf_counter() - begun
        answers.append(answer(question, found, search(question.text, LISTED), seconds))
    return answers


async def asked_of_peer(item: Conversation, search: PeerSearch) -> list[Answer]:
    answers = []
    for question in item.questions:
        found, seconds = await search(question.text, FIRST)
        answers.append(answer(question, found, (await search(question.text, LISTED))[0], seconds))
    return answers


def answer(question: Question, found: Sequence[Place], listed: Sequence[Place], seconds: float) -> Answer:
    sessions = {session for session, _ in question.evidence}
    first = list(dict.fromkeys(session for session, _ in listed))[:SESSIONS]
    return Answer(
        category=question.category,
        recall=len(question.evidence & set(found)) / len(question.evidence),
        session_recall=len(sessions & set(first)) / len(sessions),
        seconds=seconds,
    )


def percent(answers: Sequence[Answer], categories: Sequence[int], kind: str = "recall") -> float:
    chosen = [getattr(answer, kind) for answer in answers if answer.category in categories]
    return 100 * statistics.fmean(chosen) if chosen else 0.0


def totals(answers: Sequence[Answer]) -> list[str]:
    judged, everything = [1, 2, 3, 4], [1, 2, 3, 4, 5]
    return [
        f"{percent(answers, categories, kind):.1f}"
        for kind in ("recall", "session_recall")
        for categories in (judged, everything)
    ]


def row(name: str, answers: Sequence[Answer], size: str) -> list[str]:
    return [
        name,
        *(f"{percent(answers, [category]):.1f}" for category in CATEGORIES),
        *totals(answers),
        f"{statistics.median(answer.seconds for answer in answers) * 1e6:,.0f}",
        size,
    ]


VARIANTS = {
    "BM25": attrs.evolve(DEFAULT_WEIGHTS, neighbours=(), session=0.0, dates=0.0),
    "+ neighbours": attrs.evolve(DEFAULT_WEIGHTS, session=0.0, dates=0.0),
    "+ session": attrs.evolve(DEFAULT_WEIGHTS, dates=0.0),
    "+ dates (text)": DEFAULT_WEIGHTS,
}


def leave_one_out(items: Sequence[Conversation], built: Sequence[Recall]) -> None:
    """Choose weights on all conversations but one, by a grid of round values, and apply them to that one."""
    grid = [
        attrs.evolve(DEFAULT_WEIGHTS, neighbours=neighbours, session=session, similarity=similarity)
        for neighbours, session, similarity in product(
            ((0.3, 0.15), (0.4, 0.2), (0.5, 0.25), (0.6, 0.4, 0.2)),
            (0.5, 1.0, 1.5),
            (0.5, 1.0) if built[0].vectors else (1.0,),
        )
    ]
    found = [
        [asked(item, recall.search(weights)) for item, recall in zip(items, built, strict=True)] for weights in grid
    ]
    held_out: list[Answer] = []
    default: list[Answer] = []
    for out, item in enumerate(items):

        def others(answers: list[list[Answer]], out: int = out) -> float:
            return percent([answer for at, some in enumerate(answers) if at != out for answer in some], [1, 2, 3, 4, 5])

        best = max(range(len(grid)), key=lambda at: others(found[at]))
        held_out += found[best][out]
        default += asked(item, built[out].search(DEFAULT_WEIGHTS))
        chosen = grid[best]
        print(
            f"without {out + 1}: neighbours {chosen.neighbours}, session {chosen.session}, "
            f"similarity {chosen.similarity}"
        )
    everything = [1, 2, 3, 4, 5]
    print(f"recall@10 on the conversation left out: {percent(held_out, everything):.1f}")
    print(f"recall@10 with the defaults:            {percent(default, everything):.1f}")


def all_asked(items: Sequence[Conversation], searches: Sequence[Search]) -> list[Answer]:
    return [found for item, search in zip(items, searches, strict=True) for found in asked(item, search)]


def peer_row(name: str, answers: Sequence[Answer]) -> list[str]:
    return [name, *totals(answers), f"{statistics.median(one.seconds for one in answers) * 1e3:.2f}"]


async def beside_peers(items: Sequence[Conversation], built: Sequence[Recall]) -> str:
    """Return the table of all searches."""
    for peer in dict.fromkeys(case.peer for case in SEARCH_CASES):  # nothing is installed while others are measured
        python_of(peer)
    embedder = WordLlamaEmbedder()
    rows = []
    for case in SEARCH_CASES:
        found: list[Answer] = []
        for item in items:
            texts = [turn.text for turn in item.turns] + [question.text for question in item.questions]
            vectors = dict(zip(texts, await embedder.embed_passages(texts), strict=True))
            async with searched_by(case, item.sessions, vectors) as search:
                found += await asked_of_peer(item, search)
        rows.append(peer_row(f"{system_of(case.peer)} {case.store}, {case.note}", found))
    with tempfile.TemporaryDirectory(prefix="luminora-recall-") as folder:
        backend = BACKENDS["postgres"](Path(folder))
        backend.start()
        try:
            for function in TS_RANKS:
                found = []
                for item in items:
                    async with ts_ranked(backend.place, function, item.sessions) as search:
                        found += await asked_of_peer(item, search)
                rows.append(peer_row(f"PostgreSQL {function}, any of the words", found))
        finally:
            backend.stop()
    rows.append(peer_row("SQLite FTS5 bm25, any of the words", all_asked(items, [fts5(item) for item in items])))
    plain = [attrs.evolve(recall, vectors={}).search(DEFAULT_WEIGHTS) for recall in built]
    rows.append(peer_row("recall, words", all_asked(items, plain)))
    both = [recall.search(DEFAULT_WEIGHTS) for recall in built]
    rows.append(peer_row("recall, words and the vectors of wordllama", all_asked(items, both)))
    head = ["", "recall@10, 1–4", "recall@10, 1–5", "R@5 by session, 1–4", "R@5 by session, 1–5", "query, ms"]
    return table(head, rows)


async def measure(options: argparse.Namespace) -> None:
    items = read(options.data, captions=options.captions, times=not options.no_times)
    semantic = options.semantic or options.peers
    built = [await indexed(item, WordLlamaEmbedder() if semantic else None) for item in items]
    if options.peers:
        content = await beside_peers(items, built)
        print(content)
        if options.write:
            DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), "recall-peers", content), "utf-8")
        return
    if options.leave_one_out:
        leave_one_out(items, built)
        return
    turns = sum(len(item.turns) for item in items)
    print(f"{len(items)} conversations, {turns:,} turns, {sum(len(item.questions) for item in items):,} questions\n")
    rows = [row("SQLite FTS5", all_asked(items, [fts5(item) for item in items]), "")]
    size = f"{statistics.fmean(recall.bytes_per_text_byte for recall in built):.2f}"
    for name, weights in VARIANTS.items():
        plain = [attrs.evolve(recall, vectors={}).search(weights) for recall in built]
        rows.append(row(name, all_asked(items, plain), size if not options.semantic else ""))
    if options.semantic:
        found = all_asked(items, [recall.search(DEFAULT_WEIGHTS) for recall in built])
        rows.append(row("+ vectors (semantic)", found, size))
    head = ["recall@10", *CATEGORIES.values(), "1–4", "1–5", "R@5 1–4", "R@5 1–5", "µs", "index ÷ text"]
    print(table(head, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure recall on a file in LoCoMo's format.")
    parser.add_argument("--data", type=Path, required=True, help="the file")
    parser.add_argument("--semantic", action="store_true", help="with the vectors of wordllama too")
    parser.add_argument("--captions", action="store_true", help="captions of pictures are part of the texts")
    parser.add_argument("--no-times", action="store_true", help="all messages are of the same day")
    parser.add_argument("--leave-one-out", action="store_true", help="choose weights on the other conversations")
    parser.add_argument("--peers", action="store_true", help="beside PostgreSQL and agent frameworks")
    parser.add_argument("--write", action="store_true", help=f"put the table of --peers into {DOCUMENT.name}")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Which memories go into a prompt, if there are more than fit into their share of it."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from threading import Lock

import attrs

from luminoracore_sdk.application.message_costs import estimated_tokens
from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.recall import indexed_text
from luminoracore_sdk.domain.memory import MemoryEntry, retention
from luminoracore_sdk.domain.message import Message, MessageRole, message_text
from luminoracore_sdk.domain.recall.index import MEMORY, Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import Query, rank
from luminoracore_sdk.domain.recall.terms import entry_of
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig
from luminoracore_sdk.domain.values import to_microseconds
from luminoracore_sdk.domain.window import turn_start

__all__ = ["ChosenMemories", "MemoryChoice", "question_of"]

_IN_A_THREAD = 2000
"""Entries from which on they are ranked in a thread; those of a session that is not known yet always are."""

_MOST_RECALLED = 100
"""Memories that a question recalls at most: they are rendered and sent anew with each question."""

_KEPT_ENTRIES = 100_000
"""Entries of all sessions that are kept in the process; one of 60 characters takes about 2 KB."""


@attrs.frozen(kw_only=True)
class ChosenMemories:
    """The memories of one prompt, each part in the order of ``Memories.list_memories``.

    Attributes:
        always: Those that are the same in every turn as long as no memory is changed.
        recalled: Those that the question recalls.
    """

    always: Sequence[MemoryEntry]
    recalled: Sequence[MemoryEntry] = ()


@attrs.frozen
class _Known:
    """An entry of the index.

    Attributes:
        entry: The memory.
        tokens: Of its text.
        retention: How long its importance lasts; see ``domain.memory.retention``.
    """

    entry: MemoryEntry
    tokens: int
    retention: float


class _Indexed:
    """The memories of a session's prompts, and their index.

    Attributes:
        decay_factor: By which their importance fades.
        known: By key.
        tokens: Of all of them.
        index: The same entries.
        lock: Is held while they are changed or ranked.
    """

    def __init__(self, decay_factor: float) -> None:
        self.decay_factor = decay_factor
        self.known: dict[str, _Known] = {}
        self.tokens = 0
        self.index = ScopeIndex()
        self.lock = Lock()

    def follow(self, entries: Sequence[MemoryEntry], search: Search, tokens: TokenCounter) -> None:
        """Take over what was added, changed and removed."""
        for key in self.known.keys() - {entry.key for entry in entries}:
            self.tokens -= self.known.pop(key).tokens
            self.index.remove_memory(key)
        for entry in entries:
            known = self.known.get(entry.key)
            if known is None or known.entry != entry:
                self._add(entry, search, tokens)

    def _add(self, entry: MemoryEntry, search: Search, tokens: TokenCounter) -> None:
        text, stored = indexed_text(entry), entry.updated_at
        added = _Known(
            entry,
            estimated_tokens(text, tokens),
            retention(entry.importance, stored, decay_factor=self.decay_factor),
        )
        document = Document(
            kind=MEMORY, key=entry.key, created_at_us=to_microseconds(stored), importance=entry.importance
        )
        self.index.add(document, entry_of(search.analyzer.terms(text)))
        replaced = self.known.get(entry.key)
        self.tokens += added.tokens - (replaced.tokens if replaced else 0)
        self.known[entry.key] = added

    def most_important(self, entries: Sequence[MemoryEntry], count: int) -> set[str]:
        """Return the keys of those whose importance lasts longest; which these are does not change with time."""
        ordered = sorted(entries, key=lambda entry: self.known[entry.key].retention, reverse=True)
        return {entry.key for entry in ordered[:count]}  # equal ones keep their order


class MemoryChoice:
    """Chooses the memories of a prompt; remembers what it has analyzed.

    Args:
        config: The minimum and the share of the context window.
        tokens: Counts tokens.
        search: How the storage is searched.
        kept: Most entries that are remembered.
    """

    def __init__(
        self, config: MemoryConfig, tokens: TokenCounter, search: Search, *, kept: int = _KEPT_ENTRIES
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._search = search
        self._kept = kept
        self._sessions: OrderedDict[str, _Indexed] = OrderedDict()

    async def choose(
        self, session: Session, entries: Sequence[MemoryEntry], messages: Sequence[Message]
    ) -> ChosenMemories:
        """Return the memories for a prompt.

        That is all of them if there are at most ``prompt_minimum``, or if they fit into
        ``prompt_share`` of the context window. Else it is the ``prompt_minimum`` most important ones, always, and those
        others that the question recalls by its words, the best first, until the share is full or there are 100.

        Args:
            session: The session; its turns are taken one after the other.
            entries: What is important enough, each with a unique key.
            messages: History and new messages, oldest first.
        """
        if len(entries) <= self._config.prompt_minimum:
            return ChosenMemories(always=entries)
        indexed = self._sessions.get(session.session_id)
        own = session.config.memory_decay_factor
        decay_factor = self._config.decay_factor if own is None else own
        large = len(entries) > _IN_A_THREAD
        if indexed is None or indexed.decay_factor != decay_factor:
            indexed, large = self._add(session.session_id, decay_factor, len(entries)), True
        self._sessions.move_to_end(session.session_id)
        choose = partial(self._choose, indexed, session, entries, question_of(messages), self._search)
        return await off_loop(choose, large=large or indexed.lock.locked())

    def forget(self) -> None:
        """Drop the memories; the next prompts analyze theirs again."""
        self._sessions.clear()

    def _add(self, session_id: str, decay_factor: float, count: int) -> _Indexed:
        """Keep the memories of another session; those make room that were not used for the longest time."""
        self._sessions.pop(session_id, None)
        kept = sum(len(one.known) for one in self._sessions.values()) + count
        while kept > self._kept and self._sessions:
            kept -= len(self._sessions.popitem(last=False)[1].known)
        added = self._sessions[session_id] = _Indexed(decay_factor)
        return added

    def _choose(
        self, indexed: _Indexed, session: Session, entries: Sequence[MemoryEntry], question: str, search: Search
    ) -> ChosenMemories:
        share = self._config.prompt_share * session.config.context_window_size
        with indexed.lock:
            indexed.follow(entries, search, self._tokens)
            if indexed.tokens <= share:
                return ChosenMemories(always=entries)
            always = indexed.most_important(entries, self._config.prompt_minimum)
            found = rank(
                indexed.index,
                Query.of(question, search.analyzer),
                limit=_MOST_RECALLED + len(always),
                weights=search.weights,
            )
            left = share - sum(indexed.known[key].tokens for key in always)
            recalled: set[str] = set()
            for key in (one.document.key for one in found):
                size = indexed.known[key].tokens
                if key not in always and size <= left and len(recalled) < _MOST_RECALLED:
                    left -= size
                    recalled.add(key)
        return ChosenMemories(
            always=[entry for entry in entries if entry.key in always],
            recalled=[entry for entry in entries if entry.key in recalled],
        )


def question_of(messages: Sequence[Message]) -> str:
    """Return what the user says in the turn in progress: results of tools do not change it."""
    turn = messages[turn_start(messages) :]
    return "\n".join(message_text(message) for message in turn if message.role is MessageRole.USER)

"""A Hypothesis state machine: long random lives of one storage, compared with plain dictionaries."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

import attrs
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.domain.json_value import JSONObject, same_json
from luminoracore_sdk.testing.builders import json_payload
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract_base import StorageFactory
from luminoracore_sdk.testing.model import StorageModel
from luminoracore_sdk.testing.strategies import json_objects, message_records, payloads

__all__ = ["Place", "run_storage_state_machine", "storage_state_machine"]

Place = Callable[[], AbstractContextManager[StorageFactory]]
"""Gives an empty place for one life of a storage, as what makes storages on it; cleans up after it."""

T = TypeVar("T")

# Few names, so that the rules meet on the same records again and again.
_SESSIONS = ("a", "b/../'\n", "é")
_SCOPES = (*(MemoryScope("session", name) for name in _SESSIONS[:2]), MemoryScope("user", "a"))
_KEYS = ("k", "$set", "a.b", "é\n")
_IDS = ("m1", "m2", "m3", "m4", "m5")
_USERS = (None, "u", "v")
_TAGS = ("x", "y")

_sessions = st.sampled_from(_SESSIONS)
_scopes = st.sampled_from(_SCOPES)
_keys = st.sampled_from(_KEYS)
_limits = st.none() | st.integers(0, 4)
_bounds = st.integers(0, 9)


def _expected_version() -> st.SearchStrategy[int | str | None]:
    return st.sampled_from((None, None, "stored", 0, 1, 2))


def _batches() -> st.SearchStrategy[list[MessageRecord]]:
    messages = message_records(st.sampled_from(_IDS))
    return st.lists(messages, min_size=1, max_size=3, unique_by=lambda message: message.message_id)


class _StorageMachine(RuleBasedStateMachine):
    """One life: a storage, its clock and its model, on one event loop from first to last."""

    place: ClassVar[Place]
    persistent: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.model = StorageModel(lambda: self.clock.now_us)
        self.expired = Purged(sessions=0, memories=0)
        self.fresh = 0
        self.held_place = type(self).place()
        self.factory = self.held_place.__enter__()
        # One loop for the whole life: what a storage opens may be bound to it.
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.storage: SessionStorage = self.factory(self.clock)

    def teardown(self) -> None:
        """Compare all that is stored once more, then let go of everything."""
        try:
            self.everything_is_equal()
        finally:
            self.run(self.storage.close())
            self.runner.close()
            self.held_place.__exit__(None, None, None)

    # -- how a step is made ------------------------------------------------------------------------

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def tick(self, microseconds: int = 1) -> None:
        """Move time, so that no two puts share a moment and every order is defined."""
        self.clock.advance_us(microseconds)
        sessions, memories = self.model.forget_expired()
        self.expired = Purged(
            sessions=self.expired.sessions + sessions, memories=self.expired.memories + memories
        )

    def agree(self, expected: Callable[[], object], call: Coroutine[Any, Any, object]) -> None:
        """Do the same to the model and to the storage: the same answer, or the same error."""
        try:
            answer = expected()
        except LuminoraCoreSDKError as exc:
            refused = type(exc)
            try:
                given = self.run(call)
            except refused:
                return
            raise AssertionError(f"expected {refused.__name__}, got {given!r}") from None
        assert self.run(call) == answer

    # -- sessions ----------------------------------------------------------------------------------

    @rule(
        session_id=_sessions,
        payload=payloads(),
        user_id=st.sampled_from(_USERS),
        tags=st.sets(st.sampled_from(_TAGS)),
        ttl_us=st.none() | st.integers(1, 200),
        expected=_expected_version(),
    )
    def put_session(
        self,
        session_id: str,
        payload: Payload,
        user_id: str | None,
        tags: set[str],
        ttl_us: int | None,
        expected: int | str | None,
    ) -> None:
        self.tick()
        record = SessionRecord(
            session_id=session_id, payload=payload, user_id=user_id, tags=tuple(tags), ttl_us=ttl_us
        )
        stored = self.model.headers.get(session_id)
        version = (stored.version if stored else 0) if isinstance(expected, str) else expected
        self.agree(
            lambda: self.model.put_session(record, version),
            self.storage.put_session(record, expected_version=version),
        )

    @rule(session_id=_sessions, document=json_objects(max_leaves=6))
    def save_and_load_a_document(self, session_id: str, document: JSONObject) -> None:
        self.tick()
        header = self.model.headers.get(session_id) or SessionRecord(session_id=session_id, payload=None)
        self.model.put_session(attrs.evolve(header, payload=json_payload(document)), None)
        assert self.run(self.storage.save_session(session_id, document)) is True
        assert same_json(self.run(self.storage.load_session(session_id)), document)

    @rule(session_id=_sessions)
    def delete_session(self, session_id: str) -> None:
        self.tick()
        self.agree(lambda: self.model.delete_session(session_id), self.storage.delete_session(session_id))

    @rule(
        user_id=st.sampled_from(_USERS),
        tag=st.sampled_from((None, *_TAGS)),
        newest_first=st.booleans(),
        limit=st.integers(1, 3),
    )
    def list_pages(self, user_id: str | None, tag: str | None, limit: int, *, newest_first: bool) -> None:
        query = SessionQuery(user_id=user_id, tag=tag, newest_first=newest_first, limit=limit)
        expected = self.model.query_sessions(query)
        found: list[SessionRecord] = []
        while len(found) <= len(expected):
            page = self.run(self.storage.query_sessions(query))
            found.extend(page.sessions)
            if page.next_cursor is None:
                break
            query = attrs.evolve(query, cursor=page.next_cursor)
        assert found == expected

    # -- messages ----------------------------------------------------------------------------------

    @rule(session_id=_sessions, batch=_batches(), expected_last=st.sampled_from((None, None, "stored", 0, 2)))
    def append(self, session_id: str, batch: list[MessageRecord], expected_last: int | str | None) -> None:
        self.tick()
        if isinstance(expected_last, str):
            expected_last = len(self.model.messages.get(session_id, ()))
        last = expected_last
        self.agree(
            lambda: self.model.append_messages(session_id, batch, last),
            self.storage.append_messages(session_id, batch, expected_last=last),
        )

    @rule(session_id=_sessions, batch=_batches())
    def append_new(self, session_id: str, batch: list[MessageRecord]) -> None:
        self.tick()
        self.fresh += 1
        new = [attrs.evolve(message, message_id=f"{message.message_id} of {self.fresh}") for message in batch]
        self.agree(
            lambda: self.model.append_messages(session_id, new, None),
            self.storage.append_messages(session_id, new),
        )

    @rule(session_id=_sessions, start=_bounds, count=st.integers(1, 3))
    def replay(self, session_id: str, start: int, count: int) -> None:
        self.tick()
        stored = self.model.messages.get(session_id, [])[start : start + count]
        if stored:
            self.agree(
                lambda: self.model.append_messages(session_id, stored, 0),
                self.storage.append_messages(session_id, stored, expected_last=0),
            )

    @rule(
        session_id=_sessions,
        after=_bounds,
        before=st.none() | _bounds,
        limit=_limits,
        newest=st.booleans(),
    )
    def read(
        self, session_id: str, after: int, before: int | None, limit: int | None, *, newest: bool
    ) -> None:
        span = MessageRange(after=after, before=before, limit=limit, newest=newest)
        self.agree(
            lambda: self.model.read_messages(session_id, span), self.storage.read_messages(session_id, span)
        )

    @rule(session_id=_sessions, after=_bounds, chunk=st.integers(1, 4))
    def stream(self, session_id: str, after: int, chunk: int) -> None:
        async def streamed() -> list[MessageRecord]:
            stream = self.storage.stream_messages(session_id, after=after, chunk=chunk)
            return [message async for message in stream]

        span = MessageRange(after=after)
        self.agree(lambda: self.model.read_messages(session_id, span), streamed())

    @rule(session_id=_sessions, after=_bounds)
    def truncate(self, session_id: str, after: int) -> None:
        self.tick()
        self.agree(
            lambda: self.model.truncate_messages(session_id, after),
            self.storage.truncate_messages(session_id, after=after),
        )

    # -- memory ------------------------------------------------------------------------------------

    @rule(
        scope=_scopes,
        key=_keys,
        payload=payloads(),
        retention=st.sampled_from((-1e300, -1.5, 0.0, 0.1, 7.0)),
        lives_us=st.none() | st.integers(1, 60),
        max_entries=st.none() | st.integers(1, 3),
    )
    def put_memory(
        self,
        scope: MemoryScope,
        key: str,
        payload: Payload,
        retention: float,
        lives_us: int | None,
        max_entries: int | None,
    ) -> None:
        self.tick()
        record = MemoryRecord(
            scope=scope,
            key=key,
            payload=payload,
            retention=retention,
            expires_at_us=None if lives_us is None else self.clock.now_us + lives_us,
        )
        self.agree(
            lambda: self.model.put_memory(record, max_entries),
            self.storage.put_memory(record, max_entries=max_entries),
        )

    @rule(scope=_scopes, key=_keys)
    def find_memory(self, scope: MemoryScope, key: str) -> None:
        self.agree(lambda: self.model.find_memory(scope, key), self.storage.find_memory(scope, key))

    @rule(scope=_scopes, key=_keys)
    def delete_memory(self, scope: MemoryScope, key: str) -> None:
        self.agree(lambda: self.model.delete_memory(scope, key), self.storage.delete_memory(scope, key))

    @rule(scope=_scopes)
    def clear_memories(self, scope: MemoryScope) -> None:
        self.agree(lambda: self.model.clear_memories(scope), self.storage.clear_memories(scope))

    # -- time and life -----------------------------------------------------------------------------

    @rule(microseconds=st.integers(1, 90))
    def pass_time(self, microseconds: int) -> None:
        self.tick(microseconds)

    @rule()
    def purge(self) -> None:
        purged = self.run(self.storage.purge_expired())
        # A storage may have removed some of them before, when it came across them.
        assert 0 <= purged.sessions <= self.expired.sessions
        assert 0 <= purged.memories <= self.expired.memories
        self.expired = Purged(sessions=0, memories=0)
        assert self.run(self.storage.purge_expired()) == self.expired

    @precondition(lambda self: self.persistent)
    @rule()
    def reopen(self) -> None:
        self.run(self.storage.close())
        self.storage = self.factory(self.clock)

    @rule()
    def everything_is_equal(self) -> None:
        for session_id in _SESSIONS:
            assert self.run(self.storage.find_session(session_id)) == self.model.headers.get(session_id)
            self.read(session_id, 0, None, None, newest=False)
        for scope in _SCOPES:
            assert self.run(self.storage.list_memories(scope)) == self.model.list_memories(scope)


def storage_state_machine(place: Place, *, persistent: bool = True) -> type[RuleBasedStateMachine]:
    """Return a state machine over one storage; its ``TestCase`` is a unittest.

    Args:
        place: A context manager that gives a ``StorageFactory`` on an empty place, one for each life::

                @contextmanager
                def place() -> Iterator[StorageFactory]:
                    with TemporaryDirectory() as folder:
                        yield lambda clock: MyStorage(Path(folder) / "store", clock=clock)

        persistent: Whether a new storage on the same place sees what a closed one wrote; False: the
            machine never reopens.
    """
    attributes = {"place": staticmethod(place), "persistent": persistent}
    return type("StorageMachine", (_StorageMachine,), attributes)


def run_storage_state_machine(
    place: Place, *, persistent: bool = True, settings: hypothesis_settings | None = None
) -> None:
    """Run the state machine as a test.

    Args:
        place: See ``storage_state_machine``.
        persistent: See ``storage_state_machine``.
        settings: How many lives and steps; the loaded Hypothesis profile when None.
    Raises:
        AssertionError: The storage and the model differ; the shortest life that shows it is printed.
    """
    run_state_machine_as_test(storage_state_machine(place, persistent=persistent), settings=settings)

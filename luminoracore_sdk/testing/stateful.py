"""A Hypothesis state machine: random calls to a storage, compared with a model of plain dictionaries."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

import attrs
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from luminoracore_sdk.application.ports.records import (
    NEVER_EVICTED,
    IndexRewrite,
    MemoryPut,
    MemoryQuery,
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
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import StorageFactory
from luminoracore_sdk.testing.model import StorageModel
from luminoracore_sdk.testing.records import json_payload
from luminoracore_sdk.testing.strategies import json_objects

__all__ = ["Place", "StorageMachine", "run_storage_state_machine", "storage_state_machine"]


Place = Callable[[], AbstractContextManager[StorageFactory]]
"""A context manager that creates an empty store, returns the factory of storages on it, and cleans up."""

T = TypeVar("T")


# Few names and payloads, so that the rules often affect the same records. The contract covers all kinds of
# values and ids.
_SESSIONS = ("a", "b/../'\n")
_SCOPES = (*(MemoryScope("session", name) for name in _SESSIONS), MemoryScope("user", "a"))
_KEYS = ("k", "$set", "a.b", "é\n")
_IDS = ("m1", "m2", "m3", "m4", "m5", "m6")
_USERS = (None, "u", "v")
_TAGS = ("x", "y")
_PAYLOADS = (
    json_payload({"content": "text"}),
    json_payload(["\ud800\0", 2**70, -0.0]),
    Payload("json+zstd", bytes(range(256))),
    Payload("json", b'{"b": 1.0, "a": []}'),
)

_sessions = st.sampled_from(_SESSIONS)
_scopes = st.sampled_from(_SCOPES)
_payloads = st.sampled_from(_PAYLOADS)
_positions = st.integers(0, 9)
_times_to_live = st.sampled_from((None, None, None, 20, 300))
_rarely = st.integers(0, 7).map(lambda number: number == 7)


def _batches() -> st.SearchStrategy[list[MessageRecord]]:
    def said(
        message_ids: list[str],
        payload: Payload,
        roles: list[str],
        briefs: list[Payload | None],
        indexes: list[Payload | None],
        adds: dict[str, int],
    ) -> list[MessageRecord]:
        return [
            MessageRecord(
                message_id=message_id,
                role=role,
                created_at_us=-1,
                payload=payload,
                brief=brief,
                index=index,
                adds=adds,
            )
            for message_id, role, brief, index in zip(message_ids, roles, briefs, indexes, strict=False)
        ]

    distinct = st.lists(st.sampled_from(_IDS), min_size=1, max_size=3, unique=True)
    roles = st.lists(st.sampled_from(("user", "user", "assistant", "tool")), min_size=3, max_size=3)
    payloads = st.lists(st.sampled_from((None, *_PAYLOADS)), min_size=3, max_size=3)
    adds = st.just(dict[str, int]()) | st.dictionaries(
        st.sampled_from(("t", "a=b;c\n")), st.integers(-2, 2) | st.integers(-(2**40), 2**40)
    )
    return st.builds(said, distinct, _payloads, roles, payloads, payloads, adds)


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except LuminoraCoreSDKError as exc:
        return exc


class StorageMachine(RuleBasedStateMachine):
    """One run: a storage, its clock and its model, on one event loop."""

    place: ClassVar["staticmethod[[], AbstractContextManager[StorageFactory]]"]
    persistent: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.model = StorageModel(lambda: self.clock.now_us)
        self.fresh = 0
        self.fences: list[int] = []
        self.context = type(self).place()
        self.factory = self.context.__enter__()
        # One loop for the whole run: the connections of a storage may be bound to it.
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.storage: SessionStorage = self.factory(self.clock)

    def teardown(self) -> None:
        """Compare everything once more, then close."""
        try:
            self.everything_is_equal()
        finally:
            self.run(self.storage.close())
            self.runner.close()
            self.context.__exit__(None, None, None)

    # -- steps -------------------------------------------------------------------------------------

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def tick(self, microseconds: int = 1) -> None:
        """Advance the clock, so that no two puts have the same time and every order is defined."""
        self.clock.advance_us(microseconds)
        self.model.forget_expired()

    def agree(self, expected: Callable[[], object], call: Coroutine[Any, Any, object]) -> None:
        """Make the same call to model and storage; both must return the same, or raise the same error."""
        wanted, given = _outcome(expected), _outcome(lambda: self.run(call))
        if isinstance(wanted, LuminoraCoreSDKError):
            assert isinstance(given, type(wanted))
        else:
            assert given == wanted

    # -- sessions ----------------------------------------------------------------------------------

    @initialize(ttls=st.tuples(_times_to_live, _times_to_live))
    def begin(self, ttls: tuple[int | None, int | None]) -> None:
        for session_id, ttl_us in zip(_SESSIONS, ttls, strict=True):
            self.put_session(session_id, _PAYLOADS[0], None, set(), ttl_us, None, None)

    @rule(
        session_id=_sessions,
        payload=_payloads,
        user_id=st.sampled_from(_USERS),
        tags=st.sets(st.sampled_from(_TAGS)),
        ttl_us=_times_to_live,
        expected=st.sampled_from((None, "stored", 0, 1, 2)),
        card=st.none() | _payloads,
    )
    def put_session(  # the fields of a header
        self,
        session_id: str,
        payload: Payload,
        user_id: str | None,
        tags: set[str],
        ttl_us: int | None,
        expected: int | str | None,
        card: Payload | None,
    ) -> None:
        self.tick()
        record = SessionRecord(
            session_id=session_id, payload=payload, user_id=user_id, tags=tuple(tags), ttl_us=ttl_us, card=card
        )
        stored = self.model.headers.get(session_id)
        version = (stored.version if stored else 0) if isinstance(expected, str) else expected
        self.agree(
            lambda: self.model.put_session(record, version), self.storage.put_session(record, expected_version=version)
        )

    @rule(session_id=_sessions, document=json_objects(max_leaves=6))
    def save_and_load_a_document(self, session_id: str, document: JSONObject) -> None:
        self.tick()
        header = self.model.headers.get(session_id) or SessionRecord(session_id=session_id, payload=None)
        self.model.put_session(attrs.evolve(header, payload=json_payload(document)), None)
        assert self.run(self.storage.save_session(session_id, document)) is True
        assert same_json(self.run(self.storage.load_session(session_id)), document)

    @rule(session_id=_sessions, sure=_rarely)
    def delete_session(self, session_id: str, *, sure: bool) -> None:
        self.tick()
        if sure:
            self.agree(lambda: self.model.delete_session(session_id), self.storage.delete_session(session_id))

    @rule(
        user_id=st.sampled_from(_USERS),
        tag=st.sampled_from((None, *_TAGS)),
        without_tag=st.sampled_from((None, *_TAGS)),
        newest_first=st.booleans(),
        by_activity=st.booleans(),
        texts=st.booleans(),
        limit=st.integers(1, 3),
    )
    def list_pages(  # the fields of a query
        self,
        user_id: str | None,
        tag: str | None,
        without_tag: str | None,
        limit: int,
        *,
        newest_first: bool,
        by_activity: bool,
        texts: bool,
    ) -> None:
        query = SessionQuery(
            user_id=user_id,
            tag=tag,
            without_tag=without_tag,
            newest_first=newest_first,
            by_activity=by_activity,
            texts=texts,
            limit=limit,
        )
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

    @rule(session_id=_sessions, source_id=_sessions, at=st.integers(0, 6), payload=_payloads, again=st.booleans())
    def fork_session(self, session_id: str, source_id: str, at: int, payload: Payload, *, again: bool) -> None:
        """Fork one of the two sessions, mostly after the other one was deleted."""
        self.tick()
        if again and session_id != source_id:
            self.agree(lambda: self.model.delete_session(session_id), self.storage.delete_session(session_id))
        record = SessionRecord(session_id=session_id, payload=payload, card=payload)
        self.agree(
            lambda: self.model.fork_session(source_id, record, at), self.storage.fork_session(source_id, record, at=at)
        )

    @rule(session_id=_sessions, holder=st.sampled_from("hi"), ttl_us=st.sampled_from((5, 500)), fence=st.integers(0, 3))
    def lease(self, session_id: str, holder: str, ttl_us: int, fence: int) -> None:
        """Take, renew or release a lease; ``fence`` says whose, as ``_given`` understands it."""
        self.tick()
        if fence:
            given = self._given(fence)
            self.agree(
                lambda: self.model.release_lease(session_id, given), self.storage.release_lease(session_id, fence=given)
            )
        else:
            self.agree(
                lambda: self.model.acquire_lease(session_id, holder, ttl_us),
                self.storage.acquire_lease(session_id, holder=holder, ttl_us=ttl_us),
            )
            if session_id in self.model.leases:
                self.fences.append(self.model.leases[session_id].fence)

    def _given(self, number: int) -> int:
        """Return the fence that was given last (1) or before that, to any session; if there is none, the number."""
        return self.fences[-number] if number <= len(self.fences) else number

    @rule(
        session_id=_sessions,
        batch=_batches(),
        expected_last=st.sampled_from((None, None, "stored", 0, 2)),
        fence=st.sampled_from((None, None, 1, 2)),
    )
    def append(
        self, session_id: str, batch: list[MessageRecord], expected_last: int | str | None, fence: int | None = None
    ) -> None:
        self.tick()
        stored = len(self.model.messages.get(session_id, ()))
        last = stored if isinstance(expected_last, str) else expected_last
        given = None if fence is None else self._given(fence)
        self.agree(
            lambda: self.model.append_messages(session_id, batch, last, given),
            self.storage.append_messages(session_id, batch, expected_last=last, fence=given),
        )

    @rule(session_id=_sessions, batch=_batches())
    def append_new(self, session_id: str, batch: list[MessageRecord]) -> None:
        self.fresh += 1
        new = [attrs.evolve(message, message_id=f"{message.message_id} of {self.fresh}") for message in batch]
        self.append(session_id, new, None)

    @rule(session_id=_sessions, start=_positions, count=st.integers(1, 3))
    def append_again(self, session_id: str, start: int, count: int) -> None:
        batch = self.model.messages.get(session_id, [])[start : start + count]
        if batch:
            self.append(session_id, batch, 0)

    @rule(
        session_id=_sessions,
        after=st.sampled_from((0, 0, 1, 2, 5)),
        before=st.sampled_from((None, 1, 2, 3, 4, 7)),
        limit=st.none() | st.integers(0, 4),
        newest=st.booleans(),
        chunk=st.integers(1, 4),
    )
    def read_and_stream(
        self, session_id: str, after: int, before: int | None, limit: int | None, chunk: int, *, newest: bool
    ) -> None:
        async def streamed() -> list[MessageRecord]:
            stream = self.storage.stream_messages(session_id, after=after, before=before, chunk=chunk)
            return [message async for message in stream]

        self.read(session_id, MessageRange(after=after, before=before, limit=limit, newest=newest))
        whole = MessageRange(after=after, before=before)
        self.agree(lambda: self.model.read_messages(session_id, whole), streamed())

    @rule(session_id=_sessions, newest=st.integers(0, 4))
    def read_turn(self, session_id: str, newest: int) -> None:
        self.agree(lambda: self.model.read_turn(session_id, newest), self.storage.read_turn(session_id, newest=newest))

    def read(self, session_id: str, span: MessageRange) -> None:
        self.agree(lambda: self.model.read_messages(session_id, span), self.storage.read_messages(session_id, span))
        self.agree(lambda: self.model.read_index(session_id, span), self.storage.read_index(session_id, span))

    @rule(session_id=_sessions, count=st.integers(0, 3), again=st.booleans())
    def truncate(self, session_id: str, count: int, *, again: bool) -> None:
        """Truncate the newest messages, and perhaps append the same ones again."""
        self.tick()
        messages = self.model.messages.get(session_id, [])
        after = max(0, len(messages) - count)
        removed = messages[after:]
        self.agree(
            lambda: self.model.truncate_messages(session_id, after),
            self.storage.truncate_messages(session_id, after=after),
        )
        if again and removed:
            self.append(session_id, removed[::-1], after)

    @rule(
        session_id=_sessions,
        count=st.integers(-1, 3),
        batch=st.just([]) | _batches(),
        new=st.booleans(),
        expected_last=st.sampled_from((None, None, "stored", 2)),
        other_changes=st.sampled_from((None, None, 0, 1)),
    )
    def replace_tail(  # the facts of one call
        self,
        session_id: str,
        count: int,
        batch: list[MessageRecord],
        expected_last: int | str | None,
        other_changes: int | None,
        *,
        new: bool,
    ) -> None:
        """Replace the newest messages, often by ones with new ids, and perhaps do it again."""
        self.tick()
        if new:
            self.fresh += 1
            batch = [attrs.evolve(message, message_id=f"{message.message_id} of {self.fresh}") for message in batch]
        stored = len(self.model.messages.get(session_id, ()))
        after, last = max(0, stored - count), stored if isinstance(expected_last, str) else expected_last
        header, expected_change = self.run(self.storage.find_session(session_id)), None
        if header is not None and other_changes is not None:
            expected_change = header.last_change + other_changes
        is_changed = bool(expected_change and other_changes)
        for _ in range(2 if new and batch else 1):
            self.agree(
                lambda: self.model.replace_tail(session_id, after, batch, last, is_changed=is_changed),
                self.storage.replace_tail(
                    session_id,
                    after=after,
                    messages=batch,
                    expected_last=last,
                    expected_change=expected_change,
                ),
            )

    @rule(
        session_id=_sessions,
        position=st.integers(0, 6),
        payload=_payloads,
        brief=st.none() | _payloads,
        index=st.none() | _payloads,
        right=st.booleans(),
    )
    def update_message(
        self,
        session_id: str,
        position: int,
        payload: Payload,
        brief: Payload | None,
        index: Payload | None,
        *,
        right: bool,
    ) -> None:
        """Update a message, and replace its index alone."""
        stored = self.model.messages.get(session_id, [])
        known = right and 1 <= position <= len(stored)
        expected = stored[position - 1].payload if known else _PAYLOADS[0]
        self.agree(
            lambda: self.model.update_message(session_id, position, payload, expected, brief, index),
            self.storage.update_message(
                session_id, position, payload=payload, expected=expected, brief=brief, index=index
            ),
        )
        if position:
            change = IndexRewrite(
                position=position,
                message_id=stored[position - 1].message_id if known else "nobody's",
                old=stored[position - 1].index if known else None,
                new=brief,
            )
            self.agree(
                lambda: self.model.rewrite_index(session_id, [change]),
                self.storage.rewrite_index(session_id, [change]),
            )

    @rule(session_id=_sessions, position=st.integers(0, 6))
    def find_message(self, session_id: str, position: int) -> None:
        stored = self.model.messages.get(session_id, [])
        message_id = stored[position].message_id if position < len(stored) else "nobody's"
        self.agree(
            lambda: self.model.find_message(session_id, message_id), self.storage.find_message(session_id, message_id)
        )

    # -- memory ------------------------------------------------------------------------------------

    @rule(
        scope=_scopes,
        key=st.sampled_from(_KEYS),
        payload=_payloads,
        retention=st.sampled_from((-1e300, -1.5, 0.0, 0.1, 7.0, NEVER_EVICTED)),
        lives_us=st.sampled_from((None, None, 2, 30)),
        max_entries=st.sampled_from((None, 1, 2, 2)),
        expected=st.sampled_from((None, None, 0, 1, 2)),
    )
    def put_memory(
        self,
        scope: MemoryScope,
        key: str,
        payload: Payload,
        retention: float,
        lives_us: int | None,
        max_entries: int | None,
        expected: int | None,
    ) -> None:
        self.tick()
        record = MemoryRecord(
            scope=scope,
            key=key,
            payload=payload,
            retention=retention,
            expires_at_us=None if lives_us is None else self.clock.now_us + lives_us,
        )
        put = MemoryPut(record, expected)
        self.agree(
            lambda: self.model.change_memories(scope, [put], max_entries=max_entries)[0],
            self.storage.put_memory(record, max_entries=max_entries, expected_version=expected),
        )

    @rule(
        scope=_scopes,
        puts=st.dictionaries(
            st.sampled_from(_KEYS), st.tuples(_payloads, st.sampled_from((None, None, 0, 1, 2))), max_size=3
        ),
        deletes=st.sets(st.sampled_from(_KEYS), max_size=2),
        lives_us=st.sampled_from((None, None, 2, 30)),
    )
    def change_memories(
        self,
        scope: MemoryScope,
        puts: dict[str, tuple[Payload, int | None]],
        deletes: set[str],
        lives_us: int | None,
    ) -> None:
        self.tick()
        expires_at_us = None if lives_us is None else self.clock.now_us + lives_us
        records = [  # of different retention, so that the order of evictions is defined
            MemoryPut(
                MemoryRecord(scope=scope, key=key, payload=payload, retention=number / 8, expires_at_us=expires_at_us),
                expected,
            )
            for number, (key, (payload, expected)) in enumerate(puts.items())
        ]
        gone = sorted(deletes - puts.keys())
        if records or gone:
            self.agree(
                lambda: self.model.change_memories(scope, records, deletes=gone),
                self.storage.change_memories(scope, records, deletes=gone),
            )

    @rule(
        scope=_scopes,
        keys=st.lists(st.sampled_from(_KEYS), min_size=1, unique=True),
        lives_us=st.sampled_from((None, 0, 2, 30)),
    )
    def touch_memories(self, scope: MemoryScope, keys: list[str], lives_us: int | None) -> None:
        self.tick()
        expires_at_us = None if lives_us is None else self.clock.now_us + lives_us
        self.agree(
            lambda: self.model.touch_memories(scope, keys, expires_at_us),
            self.storage.touch_memories(scope, keys, expires_at_us=expires_at_us),
        )

    @rule(
        scope=_scopes,
        query=st.builds(
            MemoryQuery,
            prefix=st.sampled_from(("", "", "$", "a.")),
            after=st.none() | st.sampled_from(_KEYS),
            limit=st.sampled_from((None, 1, 2)),
            descending=st.booleans(),
            with_payload=st.booleans(),
        ),
    )
    def page_memories(self, scope: MemoryScope, query: MemoryQuery) -> None:
        self.agree(lambda: self.model.list_memories(scope, query), self.storage.list_memories(scope, query))

    @rule(scope=_scopes, key=st.sampled_from(_KEYS), whole_scope=_rarely)
    def delete_memory(self, scope: MemoryScope, key: str, *, whole_scope: bool) -> None:
        self.agree(lambda: self.model.find_memory(scope, key), self.storage.find_memory(scope, key))
        self.agree(lambda: self.model.delete_memory(scope, key), self.storage.delete_memory(scope, key))
        if whole_scope:
            self.agree(lambda: self.model.clear_memories(scope), self.storage.clear_memories(scope))

    # -- time and lifecycle ------------------------------------------------------------------------

    @rule(microseconds=st.integers(1, 40), purge=st.booleans())
    def pass_time(self, microseconds: int, *, purge: bool) -> None:
        self.tick(microseconds)
        if not purge:
            return
        purged = self.run(self.storage.purge_expired())
        # A storage may have removed some of them earlier, when it encountered them.
        assert 0 <= purged.sessions <= self.model.expired.sessions
        assert 0 <= purged.memories <= self.model.expired.memories
        self.model.expired = Purged(sessions=0, memories=0)
        assert self.run(self.storage.purge_expired()) == self.model.expired

    @precondition(lambda self: self.persistent)
    @rule()
    def reopen(self) -> None:
        self.run(self.storage.close())
        self.storage = self.factory(self.clock)

    @rule()
    def everything_is_equal(self) -> None:
        for session_id in _SESSIONS:
            assert self.run(self.storage.find_session(session_id)) == self.model.headers.get(session_id)
            self.read(session_id, MessageRange())
        for scope in _SCOPES:
            assert self.run(self.storage.list_memories(scope)) == self.model.list_memories(scope)


def storage_state_machine(place: Place, *, persistent: bool = True) -> type[RuleBasedStateMachine]:
    """Return a state machine over one storage; its ``TestCase`` is a unittest.

    Args:
        place: A context manager that returns a ``StorageFactory`` on an empty store, entered once per run:

                @contextmanager
                def place() -> Iterator[StorageFactory]:
                    with TemporaryDirectory() as folder:
                        yield lambda clock: MyStorage(Path(folder) / "store", clock=clock)

        persistent: Whether a new storage on the same store sees what a closed one wrote; if not, the
            machine never reopens it.
    """
    attributes = {"place": staticmethod(place), "persistent": persistent}
    return type("StorageMachine", (StorageMachine,), attributes)


def run_storage_state_machine(
    place: Place, *, persistent: bool = True, settings: hypothesis_settings | None = None
) -> None:
    """Run the state machine as a test.

    Args:
        place: See ``storage_state_machine``.
        persistent: See ``storage_state_machine``.
        settings: The number of runs and steps; None: those of the loaded Hypothesis profile.

    Raises:
        AssertionError: The storage and the model differ; the shortest such run is printed.
    """
    run_state_machine_as_test(storage_state_machine(place, persistent=persistent), settings=settings)

"""How a step of the state machine is made: one loop, one clock, one model for a whole life."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from luminoracore_sdk.application.ports.records import Purged
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract_base import StorageFactory
from luminoracore_sdk.testing.model import StorageModel

__all__ = ["MachineBase", "Place"]

Place = Callable[[], AbstractContextManager[StorageFactory]]
"""Gives an empty place for one life of a storage, as what makes storages on it; cleans up after it."""

T = TypeVar("T")


class MachineBase(RuleBasedStateMachine):
    """One life: a storage, its clock and its model, on one event loop from first to last."""

    place: ClassVar["staticmethod[[], AbstractContextManager[StorageFactory]]"]
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

    def everything_is_equal(self) -> None:
        """Compare all that is stored."""
        raise NotImplementedError(f"{type(self).__name__} must say what it compares")

"""The model that the state machine compares storages with."""

from luminoracore_sdk.application.ports.records import MemoryPut, MemoryScope, Purged
from luminoracore_sdk.testing.model import StorageModel
from luminoracore_sdk.testing.records import memory_record

SCOPE = MemoryScope("user", "u")


def test_a_memory_that_a_touch_lets_expire_may_be_purged() -> None:
    model = StorageModel(lambda: 1000)
    model.change_memories(SCOPE, puts=[MemoryPut(memory_record("k", owner="u", kind="user"))])
    assert model.touch_memories(SCOPE, ["k"], 1000) == 1
    assert (model.list_memories(SCOPE), model.expired) == ([], Purged(sessions=0, memories=1))

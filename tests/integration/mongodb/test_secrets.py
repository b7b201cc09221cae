"""What the server quotes of a command that it refuses is not shown: it holds what people said."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.application.ports.rewriting import RewritingStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageAccessError
from luminoracore_sdk.testing.records import json_payload, memory_record, message_record, session_record
from tests.support.bad_days import Place, failure, running_rig

_BODY = "told-in-confidence"

_TEXT = json_payload({"text": "a session"})
_SECRET = json_payload({"text": _BODY})


def rewriting(storage: SessionStorage) -> RewritingStorage:
    assert isinstance(storage, RewritingStorage)
    return storage


_WRITES: dict[str, Callable[[SessionStorage], Awaitable[object]]] = {
    "put a new session": lambda storage: storage.put_session(session_record("new", text=_BODY)),
    "put a session": lambda storage: storage.put_session(session_record(text=_BODY)),
    "append": lambda storage: storage.append_messages("s", [message_record("m1", text=_BODY)]),
    "rewrite a session": lambda storage: rewriting(storage).rewrite_session("s", old=_TEXT, new=_SECRET),
    "put a memory": lambda storage: storage.put_memory(memory_record("k", value=_BODY)),
}


@pytest.fixture(params=["mongodb-motor", "mongodb-pymongo"])
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Return a place on a server that enforces rights."""
    rig = running_rig(request.param)
    rig.mend()
    made = Place(rig, tmp_path)
    yield made
    await made.close()


@pytest.mark.parametrize("write", _WRITES)
async def test_a_refused_write_shows_no_body(guarded: Place, write: str) -> None:
    await guarded.begun()
    guarded.rig.allow_reading(guarded.account.place)
    reader = guarded.storage(attrs.evolve(guarded.account, user="reader"))
    error = await failure(_WRITES[write](reader))
    assert (type(error), error.in_doubt) == (StorageAccessError, False)
    assert "not authorized on" in error.reason
    causes = f"{error.__cause__} {error.__cause__!r} {vars(error.__cause__)}"
    logged = "".join(traceback.format_exception(error))
    assert "(Unauthorized)" in logged
    assert _BODY not in f"{error} {error!r} {error.details} {causes} {logged}"

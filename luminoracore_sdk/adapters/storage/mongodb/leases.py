"""Leases, and what makes the fence of an append hold.

An append is visible with its insert, so a fence that is compared before the insert may be out of date by then.
Therefore an append with a fence first adds a mark to ``writing`` in the header, in a command that compares the fence,
and removes it with the command that verifies the batch. A lease passes on in one command, which is a compare-and-set
on ``lease`` and ``writing``. If there are no marks, every append of the older fence is verified or was not inserted,
and will not be. Otherwise the same command opens a new epoch behind the newest batch that was seen, as a truncation
does that removes nothing: a batch that was inserted before counts, and what is inserted later is hidden.

So a batch with a fence counts only if it was inserted before the lease passed on. Leases that pass on in peace open no
epoch: a header would grow by one sealed epoch with each turn.
"""

from contextlib import suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import granted
from luminoracore_sdk.adapters.storage.mongodb.documents import Header, live
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.application.ports.records import Lease
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["Leases", "unmarked"]


@attrs.frozen
class Leases:
    """The leases of one store; see ``SessionStorage`` for what the calls do."""

    store: Collections
    sessions: Sessions

    async def acquire(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        """Take or renew a lease."""
        while True:
            header = await self.sessions.summarized(session_id, now_us)
            before = header.session.lease
            lease = granted(BACKEND, session_id, before, holder=holder, ttl_us=ttl_us, now_us=now_us)
            where: Document = {"_id": session_id, "inc": header.extent.inc, "lease": _stored(before)}
            change: Document = {"lease": {"$literal": _stored(lease)}}
            if before is None or lease.fence != before.fence:
                where |= {"writing": header.writing}
                if header.writing:
                    where |= {"epoch": header.extent.epoch}
                    change |= self._new_epoch(header)
            if await self.store.sessions.update(where, [{"$set": change}]):
                return lease

    def _new_epoch(self, header: Header) -> Document:
        """Return the change that hides what is inserted by the open epoch from now on."""
        self.sessions.forget(header.session.session_id)
        begun = header.begun(header.extent.last, header.extent.known)
        return {**begun, "writing": [], "updated": header.session.updated_at_us}

    async def release(self, session_id: str, fence: int, now_us: int) -> bool:
        """End a lease."""
        where: Document = {"_id": session_id, "lease.fence": fence, **live(now_us)}
        return await self.store.sessions.update(where, {"$set": {"lease.until": now_us}})

    async def mark(self, session_id: str, inc: ObjectId, fence: int) -> ObjectId | None:
        """Mark a session as being written with a fence; None: it has another fence, or there is none."""
        mark = ObjectId()
        where: Document = {"_id": session_id, "inc": inc, "lease.fence": fence or None}
        return mark if await self.store.sessions.update(where, {"$push": {"writing": mark}}) else None

    async def unmark(self, session_id: str, mark: ObjectId) -> None:
        """Remove a mark."""
        with suppress(StorageUnavailableError):  # then a new epoch begins when the lease passes on
            await self.store.sessions.update({"_id": session_id, "writing": mark}, {"$pull": {"writing": mark}})


def unmarked(mark: ObjectId) -> Document:
    """Return the stage of a change of a header that removes a mark."""
    return {"$set": {"writing": {"$setDifference": ["$writing", [mark]]}}}


def _stored(lease: Lease | None) -> Document | None:
    return None if lease is None else {"fence": lease.fence, "holder": lease.holder, "until": lease.until_us}

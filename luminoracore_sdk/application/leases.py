"""Leases of turns: one process at a time answers a session, and another one may ask it to stop."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import attrs

from luminoracore_sdk.application.ports.records import Lease
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    LeaseHeldError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
    ValidationError,
)

__all__ = ["DEFAULT_LEASE_SECONDS", "TurnLease", "stop_holder", "turn_lease"]

logger = logging.getLogger(__name__)

DEFAULT_LEASE_SECONDS = 30.0

_STOPPABLE = "turn:"
"""Begins the names of holders that look for a request to stop."""

_LOOK_SECONDS = 1.0
"""Between two looks of a holder for a request to stop."""

_WAIT_SECONDS = 0.2
"""Between two looks of the one that has made the request, for the end of the turn."""

_STOP_SECONDS = 10.0
"""How long a holder that is asked to stop keeps the lease, to store what has come."""

_CANCEL_SECONDS = 5.0
"""How long a cancelled task waits for the storage, to give back the lease that it may have been given."""


@attrs.define(kw_only=True)
class TurnLease:
    """The right to answer a session, as long as it is held.

    Attributes:
        session_id: The session.
        holder: A name that no other holder has.
        fence: Passed to ``send_message`` and others, which are refused once another holder has the lease.
        until_us: When it ends, as this holder has said; None: unknown.
        is_lost: Whether it is known to have passed to another holder, or the session to be gone.
    """

    session_id: str
    holder: str
    fence: int
    until_us: int | None = None
    is_lost: bool = False


@asynccontextmanager
async def turn_lease(
    storage: SessionStorage, session_id: str, *, holder: str, seconds: float, stop: Callable[[], object] | None = None
) -> AsyncGenerator[TurnLease, None]:
    """Hold the lease of a session within the block; see ``Sessions.turn_lease``.

    Args:
        storage: The storage.
        session_id: An existing session.
        holder: A name that no other holder has.
        seconds: How long the lease outlives the process.
        stop: Called when ``stop_holder`` is; None: that has no effect.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ValidationError(f"the ttl of a lease is a number of seconds above 0, not {seconds!a:.40}")
    ttl_us = max(1, round(seconds * 1_000_000))
    holder = f"{_STOPPABLE}{holder}" if stop else holder
    try:
        granted = await _granted(storage, session_id, holder=holder, ttl_us=ttl_us)
    except LeaseHeldError as exc:
        raise SessionBusyError(session_id, own_stream=False) from exc
    lease = TurnLease(session_id=session_id, holder=holder, fence=granted.fence, until_us=granted.until_us)
    renewal = asyncio.create_task(_renew(storage, lease, ttl_us, seconds / 3, stop))
    try:
        yield lease
    finally:
        renewal.cancel()
        try:
            await asyncio.wait({renewal})
        finally:
            await _release(storage, lease)


async def _release(storage: SessionStorage, lease: TurnLease) -> None:
    """Give back a lease; if the task is cancelled meanwhile, it is given back all the same."""

    async def release() -> None:
        with suppress(StorageError):  # it ends by itself
            await storage.release_lease(lease.session_id, fence=lease.fence)

    call = asyncio.ensure_future(release())
    try:
        await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call}, timeout=_CANCEL_SECONDS)
        raise


async def _granted(storage: SessionStorage, session_id: str, *, holder: str, ttl_us: int) -> Lease:
    """Return the lease; if the task is cancelled meanwhile, no lease is left behind."""
    call = asyncio.ensure_future(storage.acquire_lease(session_id, holder=holder, ttl_us=ttl_us))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call}, timeout=_CANCEL_SECONDS)
        if not call.done():
            call.cancel()
        elif call.exception() is None:
            with suppress(StorageError):  # it ends by itself
                await storage.release_lease(session_id, fence=call.result().fence)
        raise


async def _renew(
    storage: SessionStorage, lease: TurnLease, ttl_us: int, pause: float, stop: Callable[[], object] | None
) -> None:
    """Renew a lease until it is lost, or the holder is to stop."""
    while not lease.is_lost:
        if stop is None:
            await asyncio.sleep(pause)
        elif await _is_asked_to_stop(storage, lease, pause):
            stop()
            return
        try:
            renewed: Lease = await storage.acquire_lease(lease.session_id, holder=lease.holder, ttl_us=ttl_us)
        except (LeaseHeldError, SessionNotFoundError):
            lease.is_lost = True
        except StorageError as exc:
            lease.until_us = None  # it may have been renewed
            logger.warning("the lease of session %a could not be renewed: %s", lease.session_id, exc)
        else:
            lease.until_us = renewed.until_us
            if renewed.fence != lease.fence:  # it had ended, and perhaps another one had it in between
                lease.is_lost = True
                with suppress(StorageError):  # it ends by itself
                    await storage.release_lease(lease.session_id, fence=renewed.fence)


async def _is_asked_to_stop(storage: SessionStorage, lease: TurnLease, pause: float) -> bool:
    """Return whether another one has changed the end of a lease, or, after a number of seconds, that none has."""
    left = pause
    while left > 0:
        await asyncio.sleep(min(left, _LOOK_SECONDS))
        left -= _LOOK_SECONDS
        with suppress(StorageError):
            found = await _latest(storage, lease.session_id)
            is_own = found is not None and lease.until_us is not None and found.fence == lease.fence
            if found is not None and is_own and found.until_us != lease.until_us:
                return True
    return False


async def stop_holder(storage: SessionStorage, session_id: str, *, now_us: int, seconds: float = _STOP_SECONDS) -> bool:
    """Ask the turn that holds the lease of a session to stop, and wait until it has; return False if there is none.

    The request is a renewal in the name of the holder, which ends the lease at another time than the holder has said.
    So no other holder gets the lease before the partial answer is stored. A holder that does not respond loses it.

    Args:
        storage: The storage.
        session_id: Any id.
        now_us: The time.
        seconds: How long the holder may take.
    """
    lease = await _latest(storage, session_id)
    if lease is None or lease.until_us <= now_us or not lease.holder.startswith(_STOPPABLE):
        return False
    asked = await _ask(storage, lease, session_id, seconds)
    for _ in range(round(seconds / _WAIT_SECONDS)):
        found = await _latest(storage, session_id)
        if asked is None or found is None or found.fence != lease.fence or found.until_us < asked.until_us:
            break
        if found.until_us > asked.until_us:  # the holder has renewed it meanwhile
            asked = await _ask(storage, lease, session_id, seconds)
        await asyncio.sleep(_WAIT_SECONDS)
    return True


async def _latest(storage: SessionStorage, session_id: str) -> Lease | None:
    found = await storage.find_session(session_id)
    return found.lease if found else None


async def _ask(storage: SessionStorage, lease: Lease, session_id: str, seconds: float) -> Lease | None:
    """Renew a lease for as long as its holder may take to stop; return None if it has ended."""
    try:
        asked: Lease = await storage.acquire_lease(session_id, holder=lease.holder, ttl_us=round(seconds * 1_000_000))
    except (LeaseHeldError, SessionNotFoundError):
        return None
    if asked.fence == lease.fence:
        return asked
    await storage.release_lease(session_id, fence=asked.fence)
    return None

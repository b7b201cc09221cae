"""Leases of turns: one process at a time answers a session."""

import asyncio
import logging
from collections.abc import AsyncGenerator
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

__all__ = ["DEFAULT_LEASE_SECONDS", "TurnLease", "turn_lease"]

logger = logging.getLogger(__name__)

DEFAULT_LEASE_SECONDS = 30.0

_CANCEL_SECONDS = 5.0
"""How long a cancelled task waits for the storage, to give back the lease that it may have been given."""


@attrs.define(kw_only=True)
class TurnLease:
    """The right to answer a session, as long as it is held.

    Attributes:
        session_id: The session.
        holder: A name that no other holder has.
        fence: Passed to ``send_message`` and others, which are refused once another holder has the lease.
        is_lost: Whether it is known to have passed to another holder, or the session to be gone.
    """

    session_id: str
    holder: str
    fence: int
    is_lost: bool = False


@asynccontextmanager
async def turn_lease(
    storage: SessionStorage, session_id: str, *, holder: str, seconds: float
) -> AsyncGenerator[TurnLease, None]:
    """Hold the lease of a session within the block; see ``Sessions.turn_lease``."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ValidationError(f"the ttl of a lease is a number of seconds above 0, not {seconds!a:.40}")
    ttl_us = max(1, round(seconds * 1_000_000))
    try:
        granted = await _granted(storage, session_id, holder=holder, ttl_us=ttl_us)
    except LeaseHeldError as exc:
        raise SessionBusyError(session_id, own_stream=False) from exc
    lease = TurnLease(session_id=session_id, holder=holder, fence=granted.fence)
    renewal = asyncio.create_task(_renew(storage, lease, ttl_us, seconds / 3))
    try:
        yield lease
    finally:
        renewal.cancel()
        try:
            await asyncio.wait({renewal})
        finally:
            with suppress(StorageError):  # it ends by itself
                await storage.release_lease(session_id, fence=lease.fence)


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


async def _renew(storage: SessionStorage, lease: TurnLease, ttl_us: int, pause: float) -> None:
    """Renew a lease until it is lost."""
    while not lease.is_lost:
        await asyncio.sleep(pause)
        try:
            renewed: Lease = await storage.acquire_lease(lease.session_id, holder=lease.holder, ttl_us=ttl_us)
        except (LeaseHeldError, SessionNotFoundError):
            lease.is_lost = True
        except StorageError as exc:
            logger.warning("the lease of session %a could not be renewed: %s", lease.session_id, exc)
        else:
            if renewed.fence != lease.fence:  # it had ended, and perhaps another one had it in between
                lease.is_lost = True
                with suppress(StorageError):  # it ends by itself
                    await storage.release_lease(lease.session_id, fence=renewed.fence)

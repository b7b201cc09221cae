"""The session that stands behind a conversation or a memory begun without a SessionManager."""

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.toolkit import Toolkit
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.domain.session import Session

__all__ = ["begin_session"]


async def begin_session(session_id: str, storage: SessionStorage, toolkit: Toolkit) -> None:
    """Store a session without personality and provider, unless there is a session already."""
    now = toolkit.clock.now()
    session = Session(session_id=session_id, personality={}, provider=None, created_at=now, last_activity=now)
    try:
        await storage.put_session(toolkit.codec.session_record(session), expected_version=0)
    except ConflictError:
        return

"""Names for authors of storage adapters and wrappers.

A backend subclasses ``BaseStorage`` and implements its primitives; a wrapper subclasses ``StorageWrapper``
and overrides the calls that it changes. Both are ``SessionStorage``.
"""

from luminoracore_sdk.adapters.storage.base import (
    Append,
    BaseStorage,
    MemoryChange,
    MessageUpdate,
    Tail,
    check_fence,
    check_fork,
    granted,
    is_live,
    matches,
    replay_receipt,
)
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    AppendReceipt,
    Brief,
    HeaderTexts,
    HistoryChange,
    Lease,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    SessionSummary,
    TailReceipt,
    TurnRecords,
    noted,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = [
    "NO_PAYLOAD",
    "Append",
    "AppendReceipt",
    "BaseStorage",
    "Brief",
    "Clock",
    "HeaderTexts",
    "HistoryChange",
    "Lease",
    "MemoryChange",
    "MemoryPut",
    "MemoryQuery",
    "MemoryRecord",
    "MemoryScope",
    "MessageRange",
    "MessageRecord",
    "MessageUpdate",
    "Page",
    "Payload",
    "PayloadRewrite",
    "Purged",
    "RewriteMessage",
    "SessionQuery",
    "SessionRecord",
    "SessionStorage",
    "SessionSummary",
    "StorageWrapper",
    "Tail",
    "TailReceipt",
    "TurnRecords",
    "check_fence",
    "check_fork",
    "granted",
    "is_live",
    "matches",
    "noted",
    "replay_receipt",
]

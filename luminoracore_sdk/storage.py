"""Names for authors of storage adapters and wrappers.

A backend subclasses ``BaseStorage`` and implements its primitives; a wrapper subclasses ``StorageWrapper``
and overrides the calls that it changes. Both are ``SessionStorage``.
"""

from luminoracore_sdk.adapters.storage.base import BaseStorage, Tail, is_live, replay_receipt
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = [
    "AppendReceipt",
    "BaseStorage",
    "Clock",
    "MemoryRecord",
    "MemoryScope",
    "MessageRange",
    "MessageRecord",
    "Page",
    "Payload",
    "PayloadRewrite",
    "Purged",
    "SessionQuery",
    "SessionRecord",
    "SessionStorage",
    "StorageWrapper",
    "Tail",
    "TailReceipt",
    "TurnRecords",
    "is_live",
    "replay_receipt",
]

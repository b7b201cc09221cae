"""The documented import: managers, storages and the factory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.erasure import ErasureReceipt
from luminoracore_sdk.application.leases import TurnLease
from luminoracore_sdk.application.memories import ScopedMemories
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.retention import RetentionReport
from luminoracore_sdk.application.users import UserSessions
from luminoracore_sdk.bootstrap.factory import create_storage, shared_storage
from luminoracore_sdk.bootstrap.managers import ConversationManager, MemoryManager, SessionManager
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.recall.hits import Hit
from luminoracore_sdk.domain.retention import RetentionPolicy
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.summaries import ConversationPage, ConversationSummary, SessionChange
from luminoracore_sdk.domain.usage import ModelUsage, Price, Usage

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.encryption.keyring import Keyring
    from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
    from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
    from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
    from luminoracore_sdk.adapters.storage.redis import RedisStorage
    from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
    from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper
    from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
    from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage

__all__ = [
    "Conversation",
    "ConversationManager",
    "ConversationPage",
    "ConversationSummary",
    "EncryptedStorageWrapper",
    "ErasureReceipt",
    "Hit",
    "InMemoryStorage",
    "JSONFileStorage",
    "Keyring",
    "MemoryEntry",
    "MemoryManager",
    "Message",
    "MessageRole",
    "ModelUsage",
    "MongoDBStorage",
    "OptimizedStorageWrapper",
    "PersonalitySession",
    "PostgreSQLStorage",
    "Price",
    "RedisStorage",
    "RetentionPolicy",
    "RetentionReport",
    "RetryingStorage",
    "SQLiteStorage",
    "ScopedMemories",
    "Session",
    "SessionChange",
    "SessionManager",
    "SessionStorage",
    "TurnLease",
    "Usage",
    "UserSessions",
    "create_storage",
    "shared_storage",
]

PersonalitySession = SessionManager

_LAZY = {
    "EncryptedStorageWrapper": "wrappers.encrypted",
    "JSONFileStorage": "storage.json_file",
    "Keyring": "encryption.keyring",
    "MongoDBStorage": "storage.mongodb",
    "OptimizedStorageWrapper": "wrappers.optimized",
    "PostgreSQLStorage": "storage.postgres",
    "RedisStorage": "storage.redis",
    "RetryingStorage": "wrappers.retrying",
    "SQLiteStorage": "storage.sqlite",
}
"""Modules below ``adapters`` that are imported at their first use: most applications need one or two of them."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"luminoracore_sdk.adapters.{_LAZY[name]}"), name)
    globals()[name] = found
    return found

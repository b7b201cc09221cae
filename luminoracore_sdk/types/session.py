"""The documented import: configuration and the entities of a session."""

from luminoracore_sdk.bootstrap.config import Settings, StorageConfig, StorageType
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig, SessionType

__all__ = [
    "Conversation",
    "MemoryCategory",
    "MemoryConfig",
    "MemoryEntry",
    "Message",
    "MessageRole",
    "Session",
    "SessionConfig",
    "SessionType",
    "Settings",
    "StorageConfig",
    "StorageType",
]

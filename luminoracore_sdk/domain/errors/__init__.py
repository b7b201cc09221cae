"""The error tree: every error this package raises on purpose.

    LuminoraCoreSDKError
    ├── ValidationError (ValueError)         a value of the caller is invalid; nothing was done
    │   ├── InvalidIdError                   an invalid id
    │   ├── InvalidJSONError                 a value that is not JSON, NaN and infinities included
    │   ├── PayloadTooLargeError             above the backend's documented limit
    │   ├── ContextWindowError               the turn in progress does not fit the context window
    │   └── ToolCallNotFoundError (LookupError)   a result whose call is not among the newest messages
    ├── ConfigurationError (ValueError)      the configuration is invalid
    │   ├── UnsupportedStorageTypeError      carries the valid types
    │   └── MissingDependencyError (ImportError)   names the pip command to run
    ├── SessionError
    │   ├── SessionNotFoundError (LookupError)
    │   ├── MessageNotFoundError (LookupError)
    │   ├── SessionExistsError
    │   ├── SessionBusyError                 another turn is in progress, and the caller does not wait
    │   ├── TurnInterruptedError             the session was deleted or cleared during the turn
    │   ├── ReaderTimeoutError (TimeoutError)   the reader of a stream took nothing for too long
    │   └── ToolStepsError                   the model calls tools without end; carries its last answer
    ├── SyncCallError (RuntimeError)         a call without await that waits for itself
    ├── StructuredOutputError (ValueError)   an answer of the wrong form; carries the answer
    ├── StorageError
    │   ├── StorageUnavailableError          not reachable or usable now; in_doubt: a write may be done
    │   │   ├── StorageAccessError           the server refuses the password, the database or a permission
    │   │   ├── StorageBusyError             no lock or connection within the time limit
    │   │   ├── StorageFullError             no space left
    │   │   ├── StorageReadOnlyError         no permission to write, or a read-only replica
    │   │   └── StorageTimeoutError          the server did not answer in time
    │   ├── StorageClosedError               used after close()
    │   ├── WrongEventLoopError              used on another event loop than the one it was opened on
    │   ├── ConflictError                    another writer was first; carries expected and actual
    │   │   ├── LeaseHeldError               another holder has the lease of the session
    │   │   └── LeaseLostError               the lease has passed to another holder
    │   ├── CorruptRecordError               a record that cannot be read; carries backend and key
    │   │   ├── DecryptionError              an encrypted record that was damaged, moved or replaced
    │   │   ├── UnencryptedRecordError       a plain record where encryption is required
    │   │   └── UnreadablePayloadError       written through a wrapper that is not configured
    │   │       └── KeyNotFoundError         encrypted with a key that is not in the keyring
    │   ├── KeyMismatchError                 not the key that the store was written with
    │   └── SchemaVersionError               the store is newer or older than this package
    ├── NetworkError
    ├── AuthenticationError
    ├── RateLimitError
    └── ProviderError
        ├── ProviderAuthenticationError (AuthenticationError)
        ├── ProviderRateLimitError (RateLimitError)      carries retry_after in seconds
        ├── ProviderConnectionError (NetworkError)
        │   └── ProviderTimeoutError (TimeoutError)
        ├── ProviderResponseError            an answer that violates its protocol
        ├── UnsupportedContentError          a content part that the provider does not take
        └── ProviderStreamError (NetworkError)           a stream that ended early

No error text contains a memory value, a secret or the body of a message.
"""

from luminoracore_sdk.domain.errors.answers import StructuredOutputError, ToolStepsError
from luminoracore_sdk.domain.errors.base import (
    ConfigurationError,
    InvalidIdError,
    InvalidJSONError,
    LuminoraCoreSDKError,
    MessageNotFoundError,
    MissingDependencyError,
    PayloadTooLargeError,
    ReaderTimeoutError,
    SessionBusyError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SyncCallError,
    TurnInterruptedError,
    UnsupportedStorageTypeError,
    ValidationError,
)
from luminoracore_sdk.domain.errors.prompt import (
    ContextWindowError,
    ToolCallNotFoundError,
    UnsupportedContentError,
)
from luminoracore_sdk.domain.errors.provider import (
    AuthenticationError,
    NetworkError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
    RateLimitError,
)
from luminoracore_sdk.domain.errors.storage import (
    ConflictError,
    CorruptRecordError,
    DecryptionError,
    KeyMismatchError,
    KeyNotFoundError,
    LeaseHeldError,
    LeaseLostError,
    SchemaVersionError,
    StorageAccessError,
    StorageBusyError,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnencryptedRecordError,
    UnreadablePayloadError,
    WrongEventLoopError,
)

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "ContextWindowError",
    "CorruptRecordError",
    "DecryptionError",
    "InvalidIdError",
    "InvalidJSONError",
    "KeyMismatchError",
    "KeyNotFoundError",
    "LeaseHeldError",
    "LeaseLostError",
    "LuminoraCoreSDKError",
    "MessageNotFoundError",
    "MissingDependencyError",
    "NetworkError",
    "PayloadTooLargeError",
    "ProviderAuthenticationError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderRateLimitError",
    "ProviderResponseError",
    "ProviderStreamError",
    "ProviderTimeoutError",
    "RateLimitError",
    "ReaderTimeoutError",
    "SchemaVersionError",
    "SessionBusyError",
    "SessionError",
    "SessionExistsError",
    "SessionNotFoundError",
    "StorageAccessError",
    "StorageBusyError",
    "StorageClosedError",
    "StorageError",
    "StorageFullError",
    "StorageReadOnlyError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "StructuredOutputError",
    "SyncCallError",
    "ToolCallNotFoundError",
    "ToolStepsError",
    "TurnInterruptedError",
    "UnencryptedRecordError",
    "UnreadablePayloadError",
    "UnsupportedContentError",
    "UnsupportedStorageTypeError",
    "ValidationError",
    "WrongEventLoopError",
]

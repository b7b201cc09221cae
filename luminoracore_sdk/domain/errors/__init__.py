"""The error tree: every error this package raises on purpose.

::

    LuminoraCoreSDKError
    ├── ValidationError (ValueError)         the caller's value is wrong; nothing was done
    │   ├── InvalidIdError                   an id that no backend could keep
    │   ├── InvalidJSONError                 a value that is not JSON, NaN and infinities included
    │   ├── PayloadTooLargeError             above the backend's documented limit
    │   └── ContextWindowError               the turn in progress does not fit the context window
    ├── ConfigurationError (ValueError)      the wiring is wrong
    │   ├── UnsupportedStorageTypeError      carries the valid types
    │   └── MissingDependencyError (ImportError)   carries the pip command that helps
    ├── SessionError
    │   ├── SessionNotFoundError (LookupError)
    │   ├── SessionExistsError
    │   └── SessionBusyError                 asked from within an open stream on it
    ├── StorageError
    │   ├── StorageUnavailableError          not reachable or not usable now; in_doubt says what of a write
    │   │   ├── StorageAccessError           the server refuses the password, the database or a right
    │   │   ├── StorageBusyError             a lock or a connection was not given within the time limit
    │   │   ├── StorageFullError             no space left
    │   │   ├── StorageReadOnlyError         no permission to write, or a read-only replica
    │   │   └── StorageTimeoutError          the server took the request and did not answer in time
    │   ├── StorageClosedError               used after close()
    │   ├── WrongEventLoopError              used on another event loop than it was opened on
    │   ├── ConflictError                    somebody else wrote first; carries expected and actual
    │   ├── CorruptRecordError               a record that cannot be read; carries backend and key
    │   │   ├── DecryptionError              an encrypted record that was damaged, moved or exchanged
    │   │   ├── UnencryptedRecordError       a plain record where every record has to be encrypted
    │   │   └── UnreadablePayloadError       written through a wrapper that is not switched on here
    │   │       └── KeyNotFoundError         encrypted with a key that the keyring does not have
    │   ├── KeyMismatchError                 another key than the one the store was written with
    │   └── SchemaVersionError               the store is newer or older than this package
    ├── NetworkError
    ├── AuthenticationError
    ├── RateLimitError
    └── ProviderError
        ├── ProviderAuthenticationError (AuthenticationError)
        ├── ProviderRateLimitError (RateLimitError)      carries retry_after in seconds
        ├── ProviderConnectionError (NetworkError)
        │   └── ProviderTimeoutError (TimeoutError)
        ├── ProviderResponseError            an answer that cannot be understood
        ├── UnsupportedContentError          a content part that the provider does not take
        └── ProviderStreamError (NetworkError)           a stream that ended before its end

No error carries a message body, a memory value or a secret.
"""

from luminoracore_sdk.domain.errors.base import (
    ConfigurationError,
    InvalidIdError,
    InvalidJSONError,
    LuminoraCoreSDKError,
    MissingDependencyError,
    PayloadTooLargeError,
    SessionBusyError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    UnsupportedStorageTypeError,
    ValidationError,
)
from luminoracore_sdk.domain.errors.prompt import ContextWindowError, UnsupportedContentError
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
    "LuminoraCoreSDKError",
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
    "UnencryptedRecordError",
    "UnreadablePayloadError",
    "UnsupportedContentError",
    "UnsupportedStorageTypeError",
    "ValidationError",
    "WrongEventLoopError",
]

import pickle

import pytest

from luminoracore_sdk.domain import errors
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    DecryptionError,
    InvalidIdError,
    InvalidJSONError,
    KeyMismatchError,
    KeyNotFoundError,
    LuminoraCoreSDKError,
    MissingDependencyError,
    PayloadTooLargeError,
    ProviderRateLimitError,
    SchemaVersionError,
    SessionExistsError,
    SessionNotFoundError,
    StorageBusyError,
    StorageClosedError,
    StructuredOutputError,
    ToolStepsError,
    UnencryptedRecordError,
    UnreadablePayloadError,
    UnsupportedStorageTypeError,
    WrongEventLoopError,
)
from luminoracore_sdk.types.provider import ChatResponse

ANSWER = ChatResponse("text")

SAMPLES: list[tuple[LuminoraCoreSDKError, str]] = [
    (InvalidIdError("session id", "a\nb", "it is bad"), "session id 'a\\nb' is refused: it is bad"),
    (InvalidJSONError("message", "nan has no JSON form"), "message is not JSON: nan has no JSON form"),
    (
        PayloadTooLargeError(backend="sqlite", key="the message", size_bytes=9, limit_bytes=8),
        "the message is 9 bytes; sqlite stores at most 8 in one record",
    ),
    (
        UnsupportedStorageTypeError("oracle", ["memory", "json"]),
        "Storage type not supported: 'oracle'. Valid types: memory, json",
    ),
    (
        MissingDependencyError("SQLiteStorage", "sqlite"),
        "SQLiteStorage needs the 'sqlite' extra: pip install \"luminoracore-sdk[sqlite]\"",
    ),
    (
        MissingDependencyError("pydantic-ai with 'mistral'", "mistral", "pydantic-ai-slim"),
        (
            "pydantic-ai with 'mistral' needs the 'mistral' extra of pydantic-ai-slim: "
            'pip install "pydantic-ai-slim[mistral]"'
        ),
    ),
    (SessionNotFoundError("s", backend="memory"), "no session 's' in memory storage"),
    (SessionNotFoundError("s"), "no session 's'"),
    (SessionExistsError("s"), "session 's' already exists; load it, or delete it first"),
    (
        ToolStepsError("s", max_steps=3, response=ANSWER),
        (
            "session 's': the model still calls tools after 3 steps, which are stored; "
            "continue with run_tools(manager, session_id, None, tools), or raise max_steps"
        ),
    ),
    (StructuredOutputError("Invoice", "no JSON", ANSWER), "the answer is not a valid Invoice: no JSON"),
    (StorageBusyError("sqlite", "locked for 5 s"), "sqlite storage: locked for 5 s"),
    (StorageClosedError("json"), "json storage is closed; call open() first"),
    (
        ConflictError(backend="memory", key="session 's'", expected="version 1", actual="version 2"),
        "memory storage: session 's': expected version 1, found version 2",
    ),
    (
        CorruptRecordError(backend="json", key="session 's'", reason="a flipped bit"),
        "json storage: session 's' is damaged: a flipped bit",
    ),
    (
        UnreadablePayloadError(backend="json", key="k", reason="it is tagged 'x'"),
        "json storage: k is damaged: it is tagged 'x'",
    ),
    (
        DecryptionError(backend="json", key="session 's'", reason="it is cut short"),
        "json storage: session 's' is damaged: it is cut short",
    ),
    (
        UnencryptedRecordError(backend="json", key="session 's'"),
        "json storage: session 's' is damaged: it is not encrypted, and encryption is required",
    ),
    (
        KeyNotFoundError(backend="json", key="session 's'", key_id="2025"),
        ("json storage: session 's' is damaged: it was encrypted with the key '2025', which is not in the keyring"),
    ),
    (
        KeyMismatchError(backend="json", key_id="2025"),
        ("json storage: the key '2025' is not the one that the store was written with; nothing was read or changed"),
    ),
    (
        KeyMismatchError(backend="json", key_id=None),
        (
            "json storage: the index key (by default made of the last key of the ring) is not the one that the "
            "store was written with; nothing was read or changed"
        ),
    ),
    (
        SchemaVersionError(backend="sqlite", found=9, supported=1, hint="upgrade"),
        "sqlite storage has schema version 9; this package works with schema version 1: upgrade",
    ),
    (ProviderRateLimitError("slow down", retry_after=2.5), "slow down"),
    (LuminoraCoreSDKError("plain", "CODE", {"a": 1}), "plain"),
]


@pytest.mark.parametrize(("error", "text"), SAMPLES, ids=[text for _, text in SAMPLES])
def test_the_text_of_an_error(error: LuminoraCoreSDKError, text: str) -> None:
    assert str(error) == error.message == text


@pytest.mark.parametrize(("error", "text"), SAMPLES, ids=[text for _, text in SAMPLES])
def test_an_error_survives_pickling(error: LuminoraCoreSDKError, text: str) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(again) is type(error)
    assert (str(again), again.args, again.__dict__) == (text, error.args, error.__dict__)


def test_an_error_code_is_the_class_name_unless_given() -> None:
    assert StorageClosedError("json").error_code == "StorageClosedError"
    assert LuminoraCoreSDKError("x", "MINE").error_code == "MINE"
    assert LuminoraCoreSDKError("x").details == {}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidIdError("id", "", "empty"), ValueError),
        (UnsupportedStorageTypeError("x", []), ValueError),
        (MissingDependencyError("x", "y"), ImportError),
        (SessionNotFoundError("s"), LookupError),
        (errors.ProviderTimeoutError("late"), TimeoutError),
    ],
)
def test_an_error_is_the_builtin_that_it_means(error: LuminoraCoreSDKError, builtin: type[Exception]) -> None:
    assert isinstance(error, builtin)


def test_every_error_is_exported_and_in_the_tree() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, LuminoraCoreSDKError)
    }
    assert classes == set(errors.__all__)
    assert [name for name in classes if name not in (errors.__doc__ or "")] == []


def test_a_wrong_event_loop_error_says_what_to_do() -> None:
    assert "close() it there and open() it here" in str(WrongEventLoopError("sqlite"))

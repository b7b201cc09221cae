from typing import Any

import pytest

from luminoracore_sdk.adapters.codec.versions import (
    CURRENT,
    memory_document,
    message_document,
    session_document,
)


def test_a_session_of_version_1_is_brought_up_without_its_key() -> None:
    old = {
        "session_id": "s",
        "personality": {"name": "Ada"},
        "provider_config": {"name": "openai", "api_key": "sk-secret", "model": "m"},
        "session_type": "chat",
        "max_history": 7,
        "timeout": 30,
        "created_at": "2024-01-01T00:00:00",
    }
    assert session_document(old) == {
        "v": CURRENT,
        "personality": {"name": "Ada"},
        "provider": {"name": "openai", "model": "m", "base_url": None, "extra": {}},
        "config": {"session_type": "chat", "max_history": 7, "timeout": 30},
        "metadata": {},
    }


def test_a_session_of_version_1_without_a_provider_has_none() -> None:
    new = session_document({"personality": {}, "metadata": {"k": 1}})
    assert (new["provider"], new["config"], new["metadata"]) == (None, {}, {"k": 1})


def test_messages_and_memories_of_version_1_are_brought_up() -> None:
    message = {"role": "user", "content": "hi", "timestamp": "2024-01-01T00:00:00", "metadata": None}
    assert message_document(message) == {"v": CURRENT, "content": "hi", "metadata": {}}
    memory = {"value": [1], "timestamp": "2024-01-01T00:00:00"}
    assert memory_document(memory) == {"v": CURRENT, "value": [1], "importance": 1.0, "category": "fact"}


def test_a_current_document_is_left_as_it_is() -> None:
    document = {"v": CURRENT, "content": "hi", "unknown": 1}
    assert message_document(document) is document


@pytest.mark.parametrize("version", [0, 3, 99, "2", None, 1.0, [2]])
def test_unknown_version_is_refused_with_the_known_ones(version: Any) -> None:
    with pytest.raises(ValueError, match="this package reads 1 to 2"):
        message_document({"v": version, "content": "hi"})


@pytest.mark.parametrize("document", [None, [], "text", {}, {"v": 2}])
def test_what_is_no_such_document_is_refused(document: Any) -> None:
    for read, needed in (
        (session_document, "personality"),
        (message_document, "content"),
        (memory_document, "value"),
    ):
        with pytest.raises(ValueError, match=f"has no '{needed}'"):
            read(document)

"""Make the general dictionary that the package compresses records with.

    python -m scripts.train_general_dictionary           write it, and what it is made of
    python -m scripts.train_general_dictionary --check   tell whether the packaged one is what this makes

It is trained on records exactly as the SDK stores them, made of the conversations that ``training_text``
names. The same text, zstandard and parameters give the same bytes.

Dictionaries are never changed: records are read with them for ever. A better one gets the next number.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import orjson
import zstandard

from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.application.turns import answer_message
from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig
from scripts.corpora import CHITCHAT, LLAMA_FACTORY, CorpusError
from scripts.training_text import SOURCES, Turn, conversations, told_facts

__all__ = ["main", "records", "train"]

SIZE_BYTES = 65_536
"""Smaller with it, of messages of held-out training talk | of ShareGPT (zstandard 0.25.0, level 3):
16 KiB 61.2 | 62.8 %, 32 KiB 62.6 | 63.9 %, 64 KiB 63.6 | 64.6 %, 110 KiB 64.1 | 64.7 %."""

SEGMENT_BYTES = 200
"""Length of the pieces. Of 64: 63.0 | 64.3 %, of 200: 63.6 | 64.6 %, of 500: 63.5 | 64.5 %."""

MATCH_BYTES = 8
FOLDER = Path(__file__).parents[1] / "luminoracore_sdk" / "adapters" / "compression"
DICTIONARY = FOLDER / "g1.zdict"
LICENCES = FOLDER / "g1.LICENSES.txt"

_BEGAN = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
_CODEC = JsonEntityCodec()
_MODELS = (
    ("openai", "gpt-6-luna", "https://api.openai.com/v1"),
    ("anthropic", "claude-sonnet-5-5", "https://api.anthropic.com"),
    ("deepseek", "deepseek-v4-flash", "https://api.deepseek.com"),
    ("mistral", "mistral-small-latest", "https://api.mistral.ai/v1"),
    ("ollama", "llama3.2", "http://localhost:11434/v1"),
)


def records(talks: list[list[Turn]], facts: list[str]) -> list[bytes]:
    """Return what a store would hold: messages, sessions, memories and whole documents, in this order."""
    # No talk is used twice: text that comes back in the samples would count as frequent.
    return [
        *(data for number, talk in enumerate(talks) if number % 10 for data in _messages(talk)),
        *_sessions(60),
        *_memories(facts[::4]),
        *_documents([talk for talk in talks[::10] if len(talk) > 3]),
    ]


def train(samples: list[bytes], size_bytes: int = SIZE_BYTES) -> bytes:
    """Return the dictionary; one thread, so that it is the same each time."""
    learnt: list[bytes | bytearray | memoryview] = [*samples]
    made = zstandard.train_dictionary(size_bytes, learnt, k=SEGMENT_BYTES, d=MATCH_BYTES, threads=0)
    return made.as_bytes()


def _messages(talk: list[Turn]) -> Iterator[bytes]:
    for number, turn in enumerate(talk):
        message = _answer(turn, number) if turn.role == "assistant" and number % 4 else None
        message = message or Message(role=turn.role, content=turn.text)
        dated = Message(role=message.role, content=message.content, metadata=message.metadata, id="m", timestamp=_BEGAN)
        yield _CODEC.message_record(dated).payload.data


def _answer(turn: Turn, number: int) -> Message:
    """What the SDK keeps of a provider's answer: with its metadata."""
    size = len(turn.text)
    provider, model, _ = _MODELS[size % len(_MODELS)]
    called = turn.call is not None
    asked, answered = 40 + 97 * number + size % 83, 1 + size // 4
    if provider == "anthropic":
        usage: JSONObject = {
            "input_tokens": asked,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answered,
        }
        finish = "tool_use" if called else "end_turn"
    else:
        usage = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
        finish = "tool_calls" if called else "stop"
    response = ChatResponse(
        "" if called else turn.text,
        finish_reason=finish,
        usage=usage,
        model=model,
        provider_metadata={"tool_calls": [_call(turn, size)]} if called else {},
    )
    return answer_message(response)


def _call(turn: Turn, size: int) -> JSONObject:
    asked = orjson.loads(turn.call or "{}")
    arguments = orjson.dumps(asked.get("arguments", {})).decode()
    function = {"name": asked.get("name", ""), "arguments": arguments}
    return {"id": f"call_{size:x}", "type": "function", "function": function}


def _sessions(number_of: int) -> Iterator[bytes]:
    traits = ("friendly", "curious", "patient", "precise", "warm", "professional", "playful")
    for number in range(number_of):
        name, model, base_url = _MODELS[number % len(_MODELS)]
        trait, other = traits[number % 7], traits[number % 5]
        personality: JSONObject = {
            "name": f"assistant_{number}",
            "description": f"A {trait} and {other} assistant that helps people with their questions.",
            "core_traits": [trait, other],
            "tone": trait,
            "system_prompt": f"You are a {trait}, {other} assistant. Answer briefly and truthfully.",
        }
        session = Session(
            session_id="s",
            personality=personality,
            provider=ProviderConfig(name=name, model=model, base_url=base_url).public(),
            config=SessionConfig(max_history=10 * (number % 9 + 1), memory_enabled=number % 2 == 0),
            created_at=_BEGAN,
            last_activity=_BEGAN,
            metadata={"channel": "web", "locale": "en-US"} if number % 3 else {},
        )
        payload = _CODEC.session_record(session).payload
        if payload is not None:
            yield payload.data


def _memories(facts: list[str]) -> Iterator[bytes]:
    scope = MemoryScope("user", "u")
    for number, (fact, category) in enumerate(zip(facts, cycle(MemoryCategory), strict=False)):
        value: JSONValue = fact if number % 3 else {"fact": fact, "category": category.value, "source": "chat"}
        entry = MemoryEntry(
            key="k",
            value=value,
            created_at=_BEGAN,
            updated_at=_BEGAN,
            importance=(number % 10 + 1) / 10,
            category=category,
        )
        yield _CODEC.memory_record(scope, entry, decay_factor=0.1).payload.data


def _documents(talks: list[list[Turn]]) -> Iterator[bytes]:
    """Sessions as one document each, as ``save_session`` of the documented storage is given them."""
    for number, talk in enumerate(talks):
        name, model, _ = _MODELS[number % len(_MODELS)]
        began = _BEGAN + timedelta(hours=7 * number)
        said = [
            {
                "role": turn.role,
                "content": turn.text,
                "timestamp": (began + timedelta(seconds=29 * place)).isoformat(),
                "metadata": {},
            }
            for place, turn in enumerate(talk)
        ]
        yield orjson.dumps(
            {
                "session_id": f"session_{number}",
                "personality": f"assistant_{number}",
                "provider_config": {"name": name, "model": model},
                "messages": said,
                "created_at": began.isoformat(),
                "last_activity": said[-1]["timestamp"],
                "message_count": len(said),
            }
        )


def _licences() -> str:
    rows = "".join(f"- {source.name} {source.version} ({source.licence}): {source.credit}\n" for source in SOURCES)
    (mit,) = CHITCHAT.texts("LICENSE")
    (apache,) = LLAMA_FACTORY.texts("LICENSE")
    return (
        "g1.zdict is a zstandard dictionary: short pieces of text that are frequent in conversations, and\n"
        "statistics of them. scripts/train_general_dictionary.py makes it, byte for byte, of text from\n"
        f"these packages:\n\n{rows}\n"
        f"---- MIT, of chitchat-dataset ----\n\n{mit.strip()}\n\n"
        f"---- Apache-2.0, of llamafactory and bfcl-eval ----\n\n{apache.strip()}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the dictionary, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the general dictionary")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check: bool = parser.parse_args(arguments).check
    try:
        made = {DICTIONARY: train(records(conversations(), told_facts())), LICENCES: _licences().encode()}
    except CorpusError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # a command's words
        return 2
    if not check:
        for path, data in made.items():
            path.write_bytes(data)
    different = [path.name for path, data in made.items() if not path.exists() or path.read_bytes() != data]
    print(f"different: {', '.join(different)}" if different else "as packaged")  # noqa: T201
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

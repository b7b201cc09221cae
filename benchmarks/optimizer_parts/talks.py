"""Sessions for the benchmark: real talks of people with an assistant, none of whose text was trained on."""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import attrs
import orjson

from luminoracore_sdk.application.turns import answer_message
from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig
from scripts.corpora import SHAREGPT
from scripts.training_text import conversations, told_facts

__all__ = ["ChatRepl", "Found", "find_talks"]

SHARED_WORDS = 13
"""A talk that has so many words in a row in common with the training text is left out (as GPT-3's authors
kept test data apart, arXiv:2005.14165, appendix C)."""

_SIDES = {"human": "user", "gpt": "assistant"}
_BEGAN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_MODELS = (
    ("openai", "gpt-5-mini-2025-08-07"),
    ("groq", "llama-3.3-70b-versatile"),
    ("mistral", "ministral-8b"),
)


@attrs.frozen
class ChatRepl:
    """A session with its messages, as a SessionManager would have stored them."""

    session: Session
    messages: tuple[Message, ...]

    def document(self) -> JSONObject:
        """Return the whole session as the one document that ``save_session`` is given."""
        return {**self.session.to_dict(), "messages": [message.to_dict() for message in self.messages]}


@attrs.frozen
class Found:
    """The talks of the benchmark, and what was left out of the corpus."""

    talks: tuple[ChatRepl, ...]
    suitable: int
    shared: int


def find_talks(count: int) -> Found:
    """Return talks, spread evenly over the suitable ones: 10 to 60 messages, median 150 to 600 characters."""
    known = {run for text in _training_text() for run in _runs(text)}
    suitable = [said for said in _conversations() if _is_suitable(said)]
    apart = [said for said in suitable if not any(run in known for _, text in said for run in _runs(text))]
    step = len(apart) / count
    chosen = [apart[int(number * step)] for number in range(min(count, len(apart)))]
    talks = tuple(_talk(number, said) for number, said in enumerate(chosen))
    return Found(talks, len(suitable), len(suitable) - len(apart))


def _training_text() -> list[str]:
    return [*(turn.text for turns in conversations() for turn in turns), *told_facts()]


def _runs(text: str) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[at : at + SHARED_WORDS])) for at in range(len(words) - SHARED_WORDS + 1)}


def _conversations() -> list[list[tuple[str, str]]]:
    """Read the corpus: long talks lie in it in parts, ``id_0``, ``id_7`` …."""
    (text,) = SHAREGPT.texts("ShareGPT_V3_unfiltered_cleaned_split.json")
    whole = text[: text.rindex("\n  },\n")] + "\n  }\n]"  # the package's file breaks off in mid-sentence
    parts: defaultdict[str, list[tuple[int, Any]]] = defaultdict(list)
    for part in orjson.loads(whole):
        name, _, number = part["id"].rpartition("_")
        parts[name].append((int(number) if number.isdigit() else 0, part["conversations"]))
    ordered = (sorted(found, key=lambda part: part[0]) for _, found in sorted(parts.items()))
    return [
        [
            (_SIDES[said["from"]], said["value"])
            for _, turns in found
            for said in turns
            if said["from"] in _SIDES and said["value"].strip()
        ]
        for found in ordered
    ]


def _is_suitable(said: list[tuple[str, str]]) -> bool:
    return 10 <= len(said) <= 60 and 150 <= median(len(text) for _, text in said) <= 600


def _talk(number: int, said: list[tuple[str, str]]) -> ChatRepl:
    provider, model = _MODELS[number % len(_MODELS)]
    began = _BEGAN + timedelta(minutes=137 * number)
    messages = tuple(
        _message(number, place, role, text, model, began + timedelta(seconds=23 * place))
        for place, (role, text) in enumerate(said)
    )
    session = Session(
        session_id=f"customer-{number:04}",
        personality={
            "name": "Nova",
            "description": "Helps the customers of a software shop, in a calm and friendly voice.",
            "rules": ["Say so when you do not know.", "Never ask for a password."],
        },
        provider=ProviderConfig(name=provider, model=model).public(),
        config=SessionConfig(max_history=40),
        created_at=began,
        last_activity=messages[-1].timestamp or began,
        message_count=len(messages),
        metadata={"locale": "en"},
    )
    return ChatRepl(session, messages)


def _message(number: int, place: int, role: str, text: str, model: str, at: datetime) -> Message:
    made = _answer(number, place, text, model) if role == "assistant" else Message(role=role, content=text)
    identity = f"{number:08x}-{place:04x}-7000-8000-{len(text):012x}"
    return Message(role=made.role, content=made.content, metadata=made.metadata, id=identity, timestamp=at)


def _answer(number: int, place: int, text: str, model: str) -> Message:
    """An answer with the metadata that the SDK keeps; one of twenty calls a tool as well."""
    asked, answered = 61 + 143 * place + number, 1 + len(text) // 4
    usage: JSONObject = {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
    }
    calls: JSONObject = {}
    if (number + place) % 20 == 0:
        arguments = json.dumps({"query": text[:60], "limit": 5})
        function = {"name": "search_articles", "arguments": arguments}
        calls = {"tool_calls": [{"id": f"call_{number}{place}", "type": "function", "function": function}]}
    finish = "tool_calls" if calls else "stop"
    response = ChatResponse(text, finish_reason=finish, usage=usage, model=model, provider_metadata=calls)
    return answer_message(response)

"""The conversations that the general dictionary is trained on, out of three packages.

chitchat-dataset
    People talking with each other: small talk. Turns of one person are joined. Every 32nd conversation
    of the long data set: with all of them, what people write to an assistant got two points larger.
llamafactory
    Its demonstration data: people asking an assistant, with the answers (DPO, KTO), and tool calls
    (Glaive). Its Alpaca, C4 and Wikipedia samples are left out: their own licences ask for more.
bfcl-eval
    People telling an assistant about themselves, from the Berkeley Function Calling Leaderboard.

A text with an address, a link or a long number in it is left out: nothing of a person's may get into
a file that is shipped.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

from scripts.corpora import BFCL, CHITCHAT, LLAMA_FACTORY, lines_of_json

__all__ = ["SOURCES", "Turn", "conversations", "told_facts"]

SOURCES = (CHITCHAT, LLAMA_FACTORY, BFCL)

_CHITCHAT_STEP = 32
_TOPICS = ("customer", "finance", "healthcare", "notetaker", "student")
_PERSONAL = re.compile(r"@|https?:|www\.|\d{6,}")
_SENTENCE = re.compile(r"[A-Z][^.!?]{30,160}[.!?]")
_ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


@attrs.frozen
class Turn:
    """What one side says; ``call`` holds the function that an assistant calls instead, as JSON text."""

    role: str
    text: str
    call: str | None = None


def conversations() -> list[list[Turn]]:
    """Return every conversation, in an order that never changes.

    Raises:
        CorpusError: A package cannot be had.
    """
    read = (*_small_talk(), *_preferences(), *_ratings(), *_tool_calls(), *_monologues())
    clean = ([turn for turn in turns if turn.text and not _PERSONAL.search(turn.text)] for turns in read)
    return [turns for turns in clean if turns]


def told_facts() -> list[str]:
    """Return sentences in which somebody tells about himself: what a memory is made of."""
    turns = (turn for talk in _monologues() for turn in talk)
    found = (sentence for turn in turns for sentence in _SENTENCE.findall(turn.text))
    return [sentence for sentence in found if not _PERSONAL.search(sentence)]


def _small_talk() -> Iterator[list[Turn]]:
    (text,) = CHITCHAT.texts("dataset.json")
    for conversation in list(json.loads(text).values())[::_CHITCHAT_STEP]:
        turns = (" ".join(message["text"] for message in turn) for turn in conversation["messages"])
        yield [Turn("assistant" if number % 2 else "user", said) for number, said in enumerate(turns)]


def _preferences() -> Iterator[list[Turn]]:
    for pair in _demonstration("dpo_en"):
        asked = [Turn(_ROLES.get(said["from"], "system"), said["value"]) for said in pair["conversations"]]
        yield [*asked, *(Turn("assistant", pair[answer]["value"]) for answer in ("chosen", "rejected"))]


def _ratings() -> Iterator[list[Turn]]:
    for rated in _demonstration("kto_en"):
        yield [Turn(said["role"], said["content"]) for said in rated["messages"]]


def _tool_calls() -> Iterator[list[Turn]]:
    for talk in _demonstration("glaive_toolcall_en"):
        yield [
            Turn(
                _ROLES[said["from"]],
                said["value"],
                said["value"] if said["from"] == "function_call" else None,
            )
            for said in talk["conversations"]
        ]


def _demonstration(name: str) -> list[Any]:
    (text,) = LLAMA_FACTORY.texts(f"data/{name}_demo.json")
    found: list[Any] = json.loads(text)
    return found


def _monologues() -> Iterator[list[Turn]]:
    names = [f"memory_prereq_conversation/memory_{topic}.json" for topic in _TOPICS]
    for text in BFCL.texts(*names):
        for entry in lines_of_json(text):
            yield [Turn(said["role"], said["content"]) for asked in entry["question"] for said in asked]

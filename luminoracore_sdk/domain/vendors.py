"""What each vendor refuses, as data. ``outgoing`` applies these rules to the copy of a prompt that is sent.

Sources, looked up in November 2026:

- OpenAI: ids of calls have at most 40 characters ("string_above_max_length"); each id of ``tool_calls`` needs a
  tool message behind it; API reference, "Create chat completion".
- Anthropic: ids match ``^[a-zA-Z0-9_-]+$``; text blocks are non-empty and hold non-whitespace text; results stand
  in the message behind the calls, before any text; API reference, "Messages" and "Tool use".
- Gemini: each first call of an answer needs its ``thought_signature``; ``skip_thought_signature_validator`` stands
  in for calls of another origin; ai.google.dev, "Thought signatures".
- DeepSeek: with thinking, each answer that called tools needs its ``reasoning_content``; api-docs.deepseek.com,
  "Thinking mode". ``response_format`` is ``text`` or ``json_object``; "Create Chat Completion" and "JSON Output". Its
  server refuses ``json_schema`` with 400 "This response_format type is unavailable now"; inspect_ai issue 4916.
- Mistral: ids are nine letters and digits; no user message directly behind a tool message (code 3230); no answer
  without content and calls; docs.mistral.ai, "Function calling".
- pydantic-ai 2.68 (names ``pydantic-ai:<its provider>``): writes the vendor's form itself, and refuses parts locally:
  Mistral audio and video, Cohere everything but text, Bedrock audio; each in ``pydantic_ai/models/<vendor>.py``.
- vLLM: chat templates such as Llama's and Gemma's raise unless roles alternate, user first.
"""

import re
from enum import Enum
from re import Pattern
from types import MappingProxyType
from typing import Any

import attrs

__all__ = ["OPENAI", "PartForm", "ReasoningForm", "VendorRules", "rules_of"]

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Gemini's documented stand-in for a signature of a call that it did not make."""


class PartForm(Enum):
    """How content parts are written."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class ReasoningForm(Enum):
    """How the reasoning of an answer is given back to the vendor that made it."""

    NONE = "none"
    CONTENT = "reasoning_content"
    DETAILS = "reasoning_details"
    SIGNATURES = "thought_signature"
    BLOCKS = "thinking blocks"
    MESSAGE = "message of pydantic-ai"


@attrs.frozen(kw_only=True)
class VendorRules:
    """What one vendor accepts.

    Attributes:
        name: As errors call it.
        call_id: What the id of a tool call must match.
        call_id_length: Length of an id that replaces one that does not match.
        parts: Types of content parts that a user message may hold, in the vendor's own form; None: any.
        result_parts: The same for the result of a tool; empty: results are text.
        part_form: How parts are written.
        blank_text: Whether whitespace alone is accepted as a text.
        alternates: Whether consecutive messages of one role are merged, and a user message comes first.
        answers_tools: Whether an assistant message must stand between a tool message and a user message.
        context_role: Role of context that is sent for one turn.
        late_system: Whether a system message may stand behind others; otherwise it is sent as the user's.
        reasoning: How reasoning is given back.
        json_schema: Whether ``response_format`` may be a JSON schema.
    """

    name: str
    call_id: Pattern[str] = re.compile(r"(?s).{1,40}")
    call_id_length: int = 40
    parts: frozenset[str] | None = frozenset({"text", "image_url", "input_audio", "file"})
    result_parts: frozenset[str] = frozenset({"text"})
    part_form: PartForm = PartForm.OPENAI
    blank_text: bool = True
    alternates: bool = False
    answers_tools: bool = False
    context_role: str = "system"
    late_system: bool = True
    reasoning: ReasoningForm = ReasoningForm.NONE
    json_schema: bool = True


OPENAI = VendorRules(name="openai")

_ANTHROPIC = VendorRules(
    name="anthropic",
    call_id=re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    parts=frozenset({"text", "image", "document", "search_result", "container_upload"}),
    result_parts=frozenset({"text", "image", "document", "search_result"}),
    part_form=PartForm.ANTHROPIC,
    blank_text=False,
    alternates=True,
    context_role="user",  # a changed system prompt would empty the prompt cache
    reasoning=ReasoningForm.BLOCKS,
)
_GEMINI = VendorRules(
    name="gemini",
    parts=frozenset({"text", "image_url", "input_audio", "file"}),
    blank_text=False,
    alternates=True,
    reasoning=ReasoningForm.SIGNATURES,
)
_VLLM = VendorRules(
    name="vllm",
    call_id=re.compile(r"[a-zA-Z0-9]{9}"),  # templates of Mistral models ask for it; the others take it
    call_id_length=9,
    parts=frozenset({"text", "image_url", "input_audio", "video_url"}),
    result_parts=frozenset(),
    blank_text=False,
    alternates=True,
    answers_tools=True,
    context_role="user",
    late_system=False,
    reasoning=ReasoningForm.CONTENT,
)

_PYDANTIC_AI = VendorRules(
    name="pydantic-ai",
    call_id=re.compile(r"[a-zA-Z0-9_-]{1,40}"),  # the strictest of its vendors, but for Mistral
    parts=frozenset({"text", "image_url", "input_audio", "document_url", "file"}),
    result_parts=frozenset(),
    blank_text=False,
    alternates=True,
    context_role="user",  # it moves later system messages into the first, which would empty the prompt cache
    late_system=False,
    reasoning=ReasoningForm.MESSAGE,
)
_WITH_PICTURES = frozenset({"text", "image_url"})
_WITH_DOCUMENTS = frozenset({"text", "image_url", "document_url", "file"})

_PYDANTIC_AI_RULES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "google": {"result_parts": _WITH_DOCUMENTS},
        "google-cloud": {"result_parts": _WITH_DOCUMENTS},
        "mistral": {
            "call_id": re.compile(r"[a-zA-Z0-9]{9}"),
            "call_id_length": 9,
            "parts": _WITH_DOCUMENTS,
            "answers_tools": True,
        },
        "bedrock": {"parts": _WITH_DOCUMENTS},
        "cohere": {"parts": frozenset({"text"})},
        "groq": {"parts": _WITH_PICTURES},
        "huggingface": {"parts": _WITH_PICTURES},
    }
)
"""What differs, by pydantic-ai's name of a vendor."""

_RULES = MappingProxyType(
    {
        "openai": OPENAI,
        "anthropic": _ANTHROPIC,
        "gemini": _GEMINI,
        "google": _GEMINI,
        "deepseek": VendorRules(
            name="deepseek",
            parts=frozenset({"text"}),
            result_parts=frozenset(),
            blank_text=False,
            reasoning=ReasoningForm.CONTENT,
            json_schema=False,
        ),
        "mistral": VendorRules(
            name="mistral",
            call_id=re.compile(r"[a-zA-Z0-9]{9}"),
            call_id_length=9,
            parts=frozenset({"text", "image_url", "input_audio", "document_url", "file"}),
            blank_text=False,
            alternates=True,
            answers_tools=True,
            context_role="user",
            late_system=False,
        ),
        "openrouter": VendorRules(
            name="openrouter",
            call_id=re.compile(r"[a-zA-Z0-9_-]{1,40}"),  # it hands on to vendors of every kind
            blank_text=False,
            alternates=True,
            reasoning=ReasoningForm.DETAILS,
        ),
        "vllm": _VLLM,
        "llama": attrs.evolve(_VLLM, name="llama", reasoning=ReasoningForm.NONE),
        "ollama": attrs.evolve(_VLLM, name="ollama", reasoning=ReasoningForm.NONE),
        "groq": attrs.evolve(OPENAI, name="groq", blank_text=False),
    }
)


def rules_of(name: str) -> VendorRules:
    """Return the rules of a provider by its registered name.

    Those of ``pydantic-ai`` depend on the vendor: ``pydantic-ai:mistral``. A provider of another name gets those of
    OpenAI, but may be sent parts of any type.
    """
    key = name.strip().lower()
    bridge, _, vendor = key.partition(":")
    if bridge == "pydantic-ai":
        return attrs.evolve(_PYDANTIC_AI, name=key, **_PYDANTIC_AI_RULES.get(vendor, {}))
    return _RULES.get(key) or attrs.evolve(OPENAI, name=key, parts=None)

"""The cost of a prompt in tokens, as text and as JSON."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.application.prompts import compact_json, render_memory, render_transcript
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message

__all__ = ["PromptTokens", "prompt_tokens"]


@attrs.frozen(kw_only=True)
class PromptTokens:
    """The number of tokens of a session's content in different renderings.

    Attributes:
        facts: The memories as text, as in the prompt.
        facts_json: The memories as a compact JSON list of objects: key, value, and category if not fact.
        context: The transcript and the memories as text.
        context_json: Both as one compact JSON object; its messages have role and content only.
        record_json: Both as one compact JSON object, with messages and entries as ``to_dict`` returns them.
    """

    facts: int
    facts_json: int
    context: int
    context_json: int
    record_json: int


def prompt_tokens(
    messages: Sequence[Message], entries: Sequence[MemoryEntry], tokens: TokenCounter, notations: Sequence[Notation]
) -> PromptTokens:
    """Return the token counts of one session; those of several sessions can be added.

    Args:
        messages: The messages, oldest first.
        entries: The memories of the session.
        tokens: Counts tokens.
        notations: The available notations, see ``render_memory``.
    """
    memory = render_memory(entries, tokens, notations)
    context = "\n\n".join(filter(None, (memory, render_transcript(messages))))
    facts: list[JSONObject] = [_fact(entry) for entry in entries]
    said: list[JSONObject] = [{"role": str(said.role), "content": said.content} for said in messages]
    record = {"messages": [said.to_dict() for said in messages], "memories": [e.to_dict() for e in entries]}
    return PromptTokens(
        facts=tokens.count(memory),
        facts_json=tokens.count(compact_json(facts)),
        context=tokens.count(context),
        context_json=tokens.count(compact_json({"messages": said, "memories": facts})),
        record_json=tokens.count(compact_json(record)),
    )


def _fact(entry: MemoryEntry) -> JSONObject:
    fact: JSONObject = {"key": entry.key, "value": entry.value}
    if entry.category is not MemoryCategory.FACT:
        fact["category"] = entry.category.value
    return fact

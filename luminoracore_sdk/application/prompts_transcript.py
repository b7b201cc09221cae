"""A conversation as a plain transcript: what a person would paste."""

import re
from collections.abc import Iterable

from luminoracore_sdk.application.prompts_json import compact_json
from luminoracore_sdk.domain.message import Message

__all__ = ["render_transcript"]

_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def render_transcript(messages: Iterable[Message]) -> str:
    """Return role and content of each message, oldest first as they come: ``user: Hello``.

    Further lines of a message are indented by one space, so that no message can pass for two. Content
    that is not a text, or that cannot be encoded in UTF-8, is written as JSON and says so:
    ``user (JSON): [...]``. Times and metadata stay out.
    """
    return "\n".join(map(_said, messages))


def _said(message: Message) -> str:
    role, content = message.role.value, message.content
    if not isinstance(content, str) or _SURROGATE.search(content):
        return f"{role} (JSON): {compact_json(content)}"
    return f"{role}: {_LINE_END.sub(lambda end: f'{end.group()} ', content)}"

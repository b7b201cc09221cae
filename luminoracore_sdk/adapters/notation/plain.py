"""When a text may stand for itself, and when it must be quoted."""

import json

from luminoracore_sdk.application.prompts import UNSEEN, compact_json
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["is_plain", "plain_value", "read_value"]


def plain_value(value: JSONValue, *, forbidden: str = "") -> str:
    """Return a value in one line: JSON, or the bare text where that cannot be taken for anything else.

    Args:
        value: Any JSON value.
        forbidden: A character that a bare text may not hold.
    """
    if isinstance(value, str) and is_plain(value, forbidden=forbidden) and not _reads_as_json(value):
        return value
    return compact_json(value)


def read_value(text: str) -> JSONValue:
    """Return the value that ``plain_value`` wrote: what reads as JSON is JSON, all else is a text."""
    try:
        value: JSONValue = json.loads(text)
    except ValueError:
        return text
    return value


def is_plain(text: str, *, forbidden: str = "") -> bool:
    """Tell whether a text has a beginning and an end that can be seen, and nothing hidden between."""
    if not text or text != text.strip() or UNSEEN.search(text):
        return False
    return not forbidden or forbidden not in text


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text[0] in '"[{'  # broken JSON would be a riddle
    return True

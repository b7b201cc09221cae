"""JSON as it is written into prompts: compact, readable, and always fit to be sent."""

import json
import re

from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["UNSEEN", "compact_json"]

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line ends of every kind, what cannot be seen, and what cannot be encoded: never written as it is."""


def compact_json(value: JSONValue) -> str:
    r"""Return a value as JSON, on one line, without spaces.

    Characters stand for themselves, which costs fewer tokens than escapes; those of ``UNSEEN`` are
    escaped (``\u2028``).
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)

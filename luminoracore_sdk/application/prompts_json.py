"""JSON as it is written into prompts: compact, readable, and always fit to be sent."""

import json
import re

from luminoracore_sdk.application.unseen import HIDDEN, JOINERS, SELECTORS
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["UNSEEN", "compact_json"]

UNSEEN = re.compile(
    f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{HIDDEN}]"
    rf"|(?<![^\s\"{JOINERS}{SELECTORS}])[{SELECTORS}]"
    rf"|(?<![^\s\"{JOINERS}])[{JOINERS}]"
)
"""Line ends of every kind, what cannot be seen, and what cannot be encoded: never written as it is.

A joiner or a selector is at home behind a character that is seen. At a beginning or one behind the other
they join nothing, and may spell a text that only a model reads.
"""


def compact_json(value: JSONValue) -> str:
    r"""Return a value as JSON, on one line, without spaces.

    Characters stand for themselves, which costs fewer tokens than escapes; those of ``UNSEEN`` are
    escaped (``\u2028``).
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return UNSEEN.sub(lambda found: json.dumps(found.group())[1:-1], text)

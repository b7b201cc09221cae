"""Characters that nobody sees, and that still say something to a model or do something to a terminal."""

__all__ = ["HIDDEN", "JOINERS", "SELECTORS"]

HIDDEN = (
    "\u2028\u2029"  # ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of what is around them
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags: all of ASCII, unseen
)
"""For a class of a regular expression: what Unicode calls format characters (Cf) or ignorable by default.

Without the signs that are called Cf and seen (U+0600, U+06DD …), and without ``JOINERS`` and ``SELECTORS``.
Flags of England, Scotland and Wales are spelled in tags, and become escapes.
"""

JOINERS = "\u200c\u200d"
"""What Persian, Indic scripts and emoji need between two characters."""

SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
"""What emoji, ideographs and Mongolian need after a character: another form of it."""

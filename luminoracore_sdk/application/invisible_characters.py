"""Invisible characters that a model may read, or that affect a terminal."""

__all__ = ["HIDDEN", "JOINERS", "SELECTORS"]

HIDDEN = (
    "\u2028\u2029"  # line ends
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they change the direction of the surrounding text
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags: invisible copies of ASCII
)
"""Unicode's format characters (Cf) and default ignorable ones, for a character class of a regular expression.

Excluded are visible characters of Cf (U+0600, U+06DD …), ``JOINERS`` and ``SELECTORS``. The flags of England,
Scotland and Wales are spelled with tags, and are therefore escaped.
"""

JOINERS = "\u200c\u200d"
"""Join two characters in Persian, Indic scripts and emoji."""

SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
"""Select a variant of the character before them, in emoji, ideographs and Mongolian."""

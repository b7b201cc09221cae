"""Dates in a query, compared with the days on which a session has messages."""

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache

from luminoracore_sdk.domain.recall.analyzer import MAX_TEXT_LENGTH, fold

__all__ = ["DatePart", "parts_of_day", "parts_of_text"]

DatePart = tuple[str, int]
"""``("year", 2023)``, ``("month", 5)`` or ``("day", 8)``."""

_ISO = re.compile(r"\b(\d{4})-(\d\d)(?:-(\d\d))?\b")
_WORD = re.compile(r"[^\W_]+")
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_EPOCH = date(1970, 1, 1).toordinal()


@lru_cache(10_000)
def parts_of_day(day: int) -> frozenset[DatePart]:
    """Return the parts of a date.

    Args:
        day: Days since 1970.
    """
    found = date.fromordinal(_EPOCH + day)
    return frozenset({("year", found.year), ("month", found.month), ("day", found.day)})


def parts_of_text(text: str, months: Mapping[str, int]) -> list[DatePart]:
    """Return the parts of dates that a text names, sorted.

    Years are 1900 to 2099. A number counts as a day only beside the name of a month; dates as in ``2023-05-08``
    are read too.

    Args:
        text: A query.
        months: As in ``Analyzer``.
    """
    text = fold(text[:MAX_TEXT_LENGTH])
    parts: set[DatePart] = set()
    for iso in _ISO.finditer(text):
        parts |= {(unit, int(part)) for unit, part in zip(("year", "month", "day"), iso.groups(), strict=True) if part}
    words = _WORD.findall(_ISO.sub(" ", text))
    named = {months[word] for word in words if word in months}
    parts |= {("month", month) for month in named}
    parts |= {("year", int(word)) for word in words if _YEAR.fullmatch(word)}
    if named:
        parts |= {("day", int(found[1])) for word in words if (found := _DAY.fullmatch(word))}
    return sorted(parts)

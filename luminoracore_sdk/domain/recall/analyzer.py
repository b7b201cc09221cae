"""The analyzer: which terms a text is found by."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b

import attrs

__all__ = ["MAX_TERM_LENGTH", "MAX_TEXT_LENGTH", "Analyzer", "fold"]

MAX_TEXT_LENGTH = 20_000
"""Characters of one text that are analyzed, from its beginning; the rest is not indexed."""

MAX_TERM_LENGTH = 64
"""Characters of one term; a longer one is cut to its beginning."""

_VERSION = 1
"""To be raised with every change of the rules below: it is part of ``Analyzer.id``."""

_CACHED_TOKENS = 20_000
_LONGEST_CACHED = 24  # words; identifiers and runs of unspaced characters seldom come again

# Scripts written without spaces between words, and Korean, whose particles adhere to its words.
_UNSPACED = (
    "\u0e00-\u0e7f"  # Thai
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"  # Han
)
# Marks that are parts of words, but not alphanumeric in the sense of ``str.isalnum``.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0971-\u0dff"
)
_EMOJI = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
# Format characters, variation selectors and skin tones: what looks alike is found alike.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\U0001f3fb-\U0001f3ff]")

_LETTER = rf"(?:[^\W_{_UNSPACED}]|[{_MARKS}])"
_JOINTS = r"[-_.@/\\:+#]{1,3}"
_TOKEN = re.compile(rf"{_LETTER}+(?:{_JOINTS}{_LETTER}+)*|[{_UNSPACED}]+|{_FLAG}|[{_EMOJI}]")
_ASCII_TOKEN = re.compile(rf"[a-z0-9]+(?:{_JOINTS}[a-z0-9]+)*")
_PART = re.compile(r"[-_.@/\\:+#]+")
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ACCENTS = re.compile("[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")


def fold(text: str) -> str:
    """Return a text in the form in which words are compared: NFKC, case folded, without invisible characters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold())


def _no_stem(word: str) -> str:
    return word


@attrs.frozen(kw_only=True)
class Analyzer:
    """Turns texts into terms.

    A text is normalized (NFKC, case folded) and split into words and numbers. Words of the language lose their
    endings, and then their accents; stop words are left out. Beside that:

    - Words that are joined as in ``call_abc-123``, ``foo.bar@x.org`` or ``1.2.3`` are a term as a whole, and each
      part is one.
    - Chinese, Japanese, Korean and Thai become overlapping pairs of characters; a character that stands alone is
      a term.
    - An emoji is a term, whatever its skin tone.

    The terms are of ``MAX_TERM_LENGTH`` characters at most, from the first ``MAX_TEXT_LENGTH`` characters of a text.
    A text may be any string: a lone surrogate and NUL separate words.

    Attributes:
        language: The name of the language, part of ``id``.
        stem: Returns the stem of a lower-case word; must always return the same for the same word.
        stemmer: Name and version of ``stem``, part of ``id``.
        stop_words: Lower-case words that are no terms. A word is compared before it is stemmed; words are
            separated at apostrophes, so that ``don't`` is left out by ``don`` and ``t``.
        months: Numbers of the months by their lower-case names, for dates in a query; no part of ``id``.
    """

    language: str
    stem: Callable[[str], str] = _no_stem
    stemmer: str = "none"
    stop_words: frozenset[str] = frozenset()
    months: Mapping[str, int] = attrs.field(factory=dict, hash=False)
    _cached: Callable[[str], tuple[str, ...]] = attrs.field(
        default=attrs.Factory(lambda self: lru_cache(_CACHED_TOKENS)(self._split), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )

    @property
    def id(self) -> str:
        """Names everything that decides about the terms: analyzers of the same id give the same terms."""
        words = blake2b("\n".join(sorted(self.stop_words)).encode(), digest_size=4).hexdigest()
        return f"{_VERSION}/{self.language}/{self.stemmer}/{words}"

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in its order, each as often as it occurs.

        Args:
            text: Any string.
        """
        text = _THOUSANDS.sub("", fold(text[:MAX_TEXT_LENGTH]))
        tokens = (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)
        cached, split = self._cached, self._split
        return [term for token in tokens for term in (cached(token) if len(token) <= _LONGEST_CACHED else split(token))]

    def _split(self, token: str) -> tuple[str, ...]:
        """Return the terms of a token."""
        if _UNSPACED_START.match(token):
            return tuple(token[at : at + 2] for at in range(max(1, len(token) - 1)))
        parts = _PART.split(token)
        words = [self._word(part) for part in parts if part not in self.stop_words]
        whole = [_without_accents(token)[:MAX_TERM_LENGTH]] if len(parts) > 1 else []
        return tuple(whole + [word for word in words if word])

    def _word(self, word: str) -> str:
        return _without_accents(self.stem(word[:MAX_TERM_LENGTH]))[:MAX_TERM_LENGTH]


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))

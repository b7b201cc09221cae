"""Analyzers by language: Snowball's stemmers, and words of our own lists."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from threading import Lock

from luminoracore_sdk.adapters.language_words import MONTHS, STOP_WORDS
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.domain.recall.analyzer import Analyzer

__all__ = ["LANGUAGES", "make_analyzer"]

LANGUAGES = (
    *("arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "english", "esperanto", "estonian"),
    *("finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian"),
    *("nepali", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian", "sesotho", "spanish"),
    *("swedish", "tamil", "turkish", "yiddish", "none"),
)
"""Languages of ``make_analyzer``; ``none`` neither stems nor leaves out stop words."""


@cache
def make_analyzer(language: str = "english") -> Analyzer:
    """Return the analyzer of a language, always the same one.

    Texts of other languages are found by it too, by their words as they are written.

    Args:
        language: One of ``LANGUAGES``. Chinese, Japanese, Korean and Thai need none of their own.

    Raises:
        ConfigurationError: The language is unknown.
        MissingDependencyError: The ``search`` extra is not installed.
    """
    if language not in LANGUAGES:
        raise ConfigurationError(f"language {language!a:.80} is not one of: {', '.join(LANGUAGES)}")
    if language == "none":
        return Analyzer(language=language)
    return Analyzer(
        language=language,
        stem=_stemmer(language),
        stemmer=f"snowball{version('snowballstemmer')}",
        stop_words=STOP_WORDS.get(language, frozenset()),
        months=MONTHS.get(language, {}),
    )


def _stemmer(language: str) -> Callable[[str], str]:
    # not snowballstemmer.stemmer(): that is PyStemmer where it is installed, of a version of its own
    module = import_extra(f"snowballstemmer.{language}_stemmer", needed_by="full-text search", extra="search")
    stemmer = getattr(module, f"{language.capitalize()}Stemmer")()
    lock = Lock()  # a stemmer keeps the word in an attribute

    def stem(word: str) -> str:
        with lock:
            return str(stemmer.stemWord(word))

    return stem

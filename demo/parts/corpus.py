"""The conversations of the package chatterbot-corpus, as they lie in its YAML files."""

from collections.abc import Iterator
from importlib import metadata, resources
from itertools import chain, islice, zip_longest

import attrs
import yaml

__all__ = ["ChatRepl", "spread_over_languages", "version"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C reads all 2 MB in 0.2 s


@attrs.frozen
class ChatRepl:
    """One conversation: who begins is the user, and turns alternate."""

    language: str
    category: str
    lines: tuple[str, ...]


def version() -> str:
    """Return name and version of the corpus."""
    return f"chatterbot-corpus {metadata.version('chatterbot-corpus')}"


def spread_over_languages(count: int) -> list[ChatRepl]:
    """Return so many conversations (or all there are), taken from each language in turn."""
    data = resources.files("chatterbot_corpus") / "data"
    languages = sorted(folder.name for folder in data.iterdir() if folder.is_dir())
    turns = zip_longest(*(_talks(language) for language in languages))
    return list(islice((talk for talk in chain.from_iterable(turns) if talk is not None), count))


def _talks(language: str) -> Iterator[ChatRepl]:
    folder = resources.files("chatterbot_corpus") / "data" / language
    # Small talk comes first: the other files are mostly single questions with their answers.
    for file in sorted(folder.iterdir(), key=lambda file: (file.name != "conversations.yml", file.name)):
        if not file.name.endswith(".yml"):
            continue
        content = yaml.load(file.read_text("utf-8"), Loader=_LOADER)  # noqa: S506  # a safe loader
        category = file.name.removesuffix(".yml")
        for lines in content["conversations"]:
            # A handful of entries are one text instead of a list of them: no conversation.
            if isinstance(lines, list) and len(lines) > 1 and all(isinstance(line, str) for line in lines):
                yield ChatRepl(language, category, tuple(lines))

"""The notations that are used when none are given."""

from importlib.util import find_spec

from luminoracore_sdk.adapters.notation.compact_json import CompactJsonNotation
from luminoracore_sdk.adapters.notation.lines import LinesNotation
from luminoracore_sdk.adapters.notation.table import TableNotation
from luminoracore_sdk.adapters.notation.toon import ToonNotation
from luminoracore_sdk.application.ports.prompting import Notation

__all__ = ["default_notations"]


def default_notations() -> tuple[Notation, ...]:
    """Return them, the most readable one first; TOON is among them with the extra ``tokens``."""
    if find_spec("toon_format") is None:
        return LinesNotation(), TableNotation(), CompactJsonNotation()
    return LinesNotation(), TableNotation(), ToonNotation(), CompactJsonNotation()

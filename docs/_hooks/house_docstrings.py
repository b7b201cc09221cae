"""Lets griffe read docstrings as this project writes them."""

import re

import griffe

_SECTION = re.compile(r"(?<=\S)\n(?=(?:Args|Attributes|Returns|Yields|Raises|Example|Examples):\n)")
_LITERAL = re.compile(r"^::\n", re.MULTILINE)


class HouseDocstrings(griffe.Extension):
    """Adds the blank line above each section that griffe asks for; removes the mark above a drawing."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of one object, once it is loaded with its members."""
        if obj.docstring:
            obj.docstring.value = _LITERAL.sub("", _SECTION.sub("\n\n", obj.docstring.value))

"""Halves of characters: text that a provider cut between the two halves of a surrogate pair."""

__all__ = ["SurrogateJoiner", "joined_surrogates"]

_HIGH = ("\ud800", "\udbff")


def joined_surrogates(text: str, *, replace: bool = False) -> str:
    """Return a text whose halves that belong together have become their character.

    Args:
        text: Any text.
        replace: Whether a half that stays alone becomes U+FFFD; otherwise it stays.
    """
    if text.isascii():
        return text
    errors = "replace" if replace else "surrogatepass"
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", errors)


class SurrogateJoiner:
    """Hold back half of a character until its other half comes, so that no delta holds a lone surrogate."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """Return what can be shown of the text so far held and the new one."""
        whole = self._held + text
        self._held = whole[-1:] if _HIGH[0] <= whole[-1:] <= _HIGH[1] else ""
        return joined_surrogates(whole[: len(whole) - len(self._held)], replace=True)

    def end(self) -> str:
        """Return what is still held: U+FFFD for a half whose other half never came."""
        held, self._held = self._held, ""
        return joined_surrogates(held, replace=True)

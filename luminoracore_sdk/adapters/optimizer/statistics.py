"""What an optimizer makes of a value, in bytes and in tokens."""

import attrs

__all__ = ["OptimizationStatistics"]


@attrs.frozen(kw_only=True)
class OptimizationStatistics:
    """Sizes of one value.

    Attributes:
        json_bytes: As compact JSON, in UTF-8.
        text_bytes: As ``compress_text`` writes it, in UTF-8.
        record_bytes: As a record of a store, with the package's own dictionary; never above ``json_bytes``.
        json_tokens: Of the compact JSON; None: no counter was given.
        text_tokens: Of ``compress_text``; None: no counter was given.
    """

    json_bytes: int
    text_bytes: int
    record_bytes: int
    json_tokens: int | None = None
    text_tokens: int | None = None

    @property
    def text_saving(self) -> float:
        """The share of the bytes that the text saves, 0.25 for a quarter; negative: it is longer."""
        return 1 - self.text_bytes / self.json_bytes

    @property
    def record_saving(self) -> float:
        """The share of the bytes that a record saves, 0 to 1."""
        return 1 - self.record_bytes / self.json_bytes

    @property
    def token_saving(self) -> float | None:
        """The share of the tokens that the text saves; None: no counter was given."""
        if self.json_tokens is None or self.text_tokens is None:
            return None
        return 1 - self.text_tokens / self.json_tokens

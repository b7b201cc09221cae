"""A token count that needs no vocabulary."""

__all__ = ["HeuristicTokenCounter"]


class HeuristicTokenCounter:
    """Counts 4 UTF-8 bytes as one token, rounded up.

    Close for English prose; it counts too many rather than too few for most other scripts, so that
    a window never overflows by much. The exact count needs the model's own vocabulary.
    """

    def count(self, text: str) -> int:
        """Return the estimate."""
        return -(-len(text.encode("utf-8", "surrogatepass")) // 4)

"""Dot products of vectors of signed bytes, with numpy."""

from luminoracore_sdk.adapters.optional import import_extra

__all__ = ["numpy_dot_products"]

_ROWS = 4096
"""Converted to floats at a time: 4 MB of 256 dimensions."""

_LARGEST_PRODUCT = 128 * 128


def numpy_dot_products(matrix: bytearray, vector: bytes) -> list[float]:
    """Return the dot products of the rows of a matrix with a vector, exactly those of ``ranking.dot_products``.

    Floats are exact for integers up to 2**24 (single) and 2**53 (double precision), whatever the order in which
    they are added.

    Raises:
        MissingDependencyError: numpy is not installed.
    """
    numpy = import_extra("numpy", needed_by="semantic search", extra="semantic")
    kind = numpy.float32 if len(vector) * _LARGEST_PRODUCT <= 1 << 24 else numpy.float64
    values = numpy.frombuffer(vector, numpy.int8).astype(kind)
    rows = numpy.frombuffer(matrix, numpy.int8).reshape(-1, len(vector))
    found: list[float] = []
    for start in range(0, len(rows), _ROWS):
        found += (rows[start : start + _ROWS].astype(kind) @ values).tolist()
    return found

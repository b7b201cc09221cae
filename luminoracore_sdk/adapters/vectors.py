"""Comparison of vectors of signed bytes, with numpy."""

from array import array

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.domain.recall.ranking import COSINE_UNIT

__all__ = ["numpy_cosines"]

_ROWS = 512
"""Converted to floats at a time: 512 KB of 256 dimensions stay in a processor's cache."""

_LARGEST_PRODUCT = 128 * 128


def numpy_cosines(matrix: bytearray, norms: "array[float]", vector: bytes) -> list[int]:
    """Return the cosines of the angles between the rows of a matrix and a vector, exactly as ``ranking.cosines``.

    Floats are exact for integers up to 2**24 (single) and 2**53 (double precision), whatever the order in which
    they are added.

    Raises:
        MissingDependencyError: numpy is not installed.
    """
    numpy = import_extra("numpy", needed_by="semantic search", extra="semantic")
    kind = numpy.float32 if len(vector) * _LARGEST_PRODUCT <= 1 << 24 else numpy.float64
    values = numpy.frombuffer(vector, numpy.int8).astype(kind)
    rows = numpy.frombuffer(matrix, numpy.int8).reshape(-1, len(vector))
    lengths = numpy.frombuffer(norms)
    products = numpy.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        products[start : start + _ROWS] = rows[start : start + _ROWS].astype(kind) @ values
    scale = lengths * (numpy.sqrt(numpy.dot(values.astype(float), values.astype(float))) or 1.0)
    found = numpy.divide(products, scale, out=numpy.zeros(len(rows)), where=lengths > 0)
    return list(numpy.rint(found * COSINE_UNIT).astype(int).tolist())

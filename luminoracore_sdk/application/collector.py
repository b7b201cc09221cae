"""Python's garbage collector, held off while many objects are created that all stay."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["collector_held_off"]

_lock = Lock()
_blocks = 0
_was_enabled = False


@contextmanager
def collector_held_off() -> Iterator[None]:
    """Disable the collector during a block, and enable it afterwards if it was enabled.

    A JSON document of 5 MB has a hundred thousand objects. Creating them makes the collector look through all
    objects of the process several times, 60 to 160 ms each, in which no thread runs (Python 3.11, measured). So do the
    forty thousand objects from which the index of 10,000 messages is made: once, 60 to 70 ms. The
    setting is one for all threads: if other code calls ``gc.disable`` during a block, the end of the block undoes it.
    """
    global _blocks, _was_enabled  # noqa: PLW0603  # as the collector itself is
    with _lock:
        if _blocks == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0 and _was_enabled:
                gc.enable()


def _begin_anew() -> None:  # pragma: no cover  # children of a fork are not measured
    """End in a forked child the blocks of the parent's threads, which it does not have."""
    global _lock, _blocks  # noqa: PLW0603
    _lock = Lock()
    if _blocks and _was_enabled:
        gc.enable()
    _blocks = 0


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)

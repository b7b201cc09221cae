"""The scripts of the Redis backend, read from ``scripts``.

They run on Redis 6.2 and newer. They bear no ``#!lua`` line: without it, a server that has no memory left
refuses a script at its first write that needs some, and lets those pass that begin by deleting; a script
with flags would be refused, or let pass, as a whole.
"""

from functools import cache
from hashlib import sha1
from importlib import resources

import attrs

__all__ = ["Script", "script"]

_ON_MEMORIES = frozenset({"put_memory", "rewrite_memory", "delete_memory", "clear_memories", "purge_memory"})
_SHORT = frozenset({"append", "read", "truncate"})
"""Scripts that do without ``common``: a server makes its functions anew at each call, which takes 2 µs."""


@attrs.frozen
class Script:
    """A script as the server takes it.

    Attributes:
        name: Of its file.
        source: With what it shares with the others.
        digest: By which the server knows it, once it has seen the source.
    """

    name: str
    source: bytes
    digest: bytes


@cache
def script(name: str) -> Script:
    """Return a script by the name of its file."""
    first = ("append_one",) if name == "append" else ()
    shared = () if name in _SHORT else ("common",)
    parts = (*first, "session", *shared, *(("memory",) if name in _ON_MEMORIES else ()), name)
    folder = resources.files("luminoracore_sdk.adapters.storage.redis") / "scripts"
    source = b"\n".join((folder / f"{part}.lua").read_bytes() for part in parts)
    digest = sha1(source, usedforsecurity=False).hexdigest().encode()  # EVALSHA knows no other
    return Script(name, source, digest)

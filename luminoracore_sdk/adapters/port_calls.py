"""Methods for storages that treat every call of the port alike, so that none of its methods is forgotten."""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["fixed", "port_calls"]

Call = Callable[..., Coroutine[Any, Any, Any]]


def port_calls(kind: type, make: Callable[[str], Call], *, without: Collection[str] = ()) -> dict[str, Call]:
    """Return a method for each coroutine function of the port that a class does not define itself.

    Args:
        kind: A storage class.
        make: Returns the method of a name.
        without: Names that get no method.
    """
    return {
        name: wraps(member, updated=())(make(name))
        for name, member in vars(SessionStorage).items()
        if iscoroutinefunction(member) and not name.startswith("_") and name not in {*vars(kind), *without}
    }


def fixed(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, with tuples for lists, which the caller may change while the call waits."""
    return [_fixed(value) for value in args], {name: _fixed(value) for name, value in kwargs.items()}


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

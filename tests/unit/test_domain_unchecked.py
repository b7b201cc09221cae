"""Construction of frozen classes without converters and checks."""

import copy
import pickle
import weakref

import attrs
import pytest

from luminoracore_sdk.domain.unchecked import unchecked


def _upper(text: str) -> str:
    return text.upper()


@attrs.frozen(kw_only=True)
class Point:
    x: int
    label: str = attrs.field(default="", converter=_upper)


def test_it_returns_an_instance_of_the_class_without_conversion() -> None:
    point = unchecked(Point)(1, "a")
    assert type(point) is Point
    assert (point.x, point.label) == (1, "a")


def test_the_instance_is_frozen_and_like_any_other() -> None:
    point = unchecked(Point)(1, "A")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del point.x  # pyright: ignore[reportAttributeAccessIssue]
    assert point == Point(x=1, label="A")
    assert hash(point) == hash(Point(x=1, label="A"))
    assert pickle.loads(pickle.dumps(point)) == copy.copy(point) == attrs.evolve(point) == point  # noqa: S301
    assert weakref.ref(point)() is point


def test_every_field_is_given() -> None:
    with pytest.raises(TypeError, match="label"):
        unchecked(Point)(1)

"""Schemas of Python functions and classes."""

import enum
import sys
from datetime import date
from typing import Annotated, Any, Literal, TypedDict

import attrs
import pytest
from pydantic import BaseModel, Field

from luminoracore_sdk.adapters.schemas import output_kind, strict_schema
from luminoracore_sdk.domain.errors import InvalidJSONError, MissingDependencyError, ValidationError
from luminoracore_sdk.tools import Tool, tool_of


class Unit(enum.Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


@attrs.frozen
class Place:
    """A place."""

    city: str = attrs.field(validator=attrs.validators.min_len(1))
    floor: Annotated[int, Field(description="Counted from 0.")] = attrs.field(
        default=0, validator=attrs.validators.instance_of(int)
    )
    _tag: str | None = None
    length: int = attrs.field(init=False, default=5)


class Node(BaseModel):
    name: str
    children: list["Node"] = []


@attrs.frozen
class Trip:
    stops: list[Place]
    first_day: date
    by: Literal["train", "car"] = "train"
    back_to: Place | None = None


async def forecast(
    place: Place, days: int = 1, unit: Annotated[Unit, Field(description="Own words.")] = Unit.METRIC
) -> Any:
    """Return the weather of the next days.

    It never rains.

    Args:
        place: Where.
        days: How many days.
        unit: Not used: the annotation has its own description.
    """
    return {"place": place, "days": days, "unit": unit, "on": date(2026, 1, 2)}


def test_a_function_becomes_a_tool() -> None:
    tool = tool_of(forecast)
    assert (tool.name, tool.description) == ("forecast", "Return the weather of the next days.\n\nIt never rains.")
    place, days, unit = (tool.schema["properties"][name] for name in ("place", "days", "unit"))
    assert (place["description"], days["description"], unit["description"]) == (
        "Where.",
        "How many days.",
        "Own words.",
    )
    assert days["type"] == "integer"
    assert tool.schema["required"] == ["place"]
    assert tool.schema["additionalProperties"] is False
    assert tool.declaration()["function"]["parameters"] == tool.schema


async def test_arguments_are_converted_and_results_become_json() -> None:
    result = await tool_of(forecast).call({"place": {"city": "Ghent", "tag": "t"}, "days": "3", "unit": "imperial"})
    place = {"city": "Ghent", "floor": 0, "_tag": "t", "length": 5}
    assert result == {"place": place, "days": 3, "unit": "imperial", "on": "2026-01-02"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, r"^place: Field required$"),
        ({"place": {"city": "x"}, "days": "many"}, r"^days: Input should be a valid integer"),
        ({"place": {"city": "x"}, "more": 1}, r"^more: Extra inputs are not permitted$"),
        ({"place": {"city": ""}}, r"^place: Value error, Length of 'city' must be >= 1"),
        ({"place": {"city": "x", "length": 1}}, r"^place\.length: Extra inputs"),
        ({"place": {"city": "x"}, "unit": "secret"}, r"^unit: Input should be 'metric' or 'imperial'$"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        await tool_of(forecast).call(arguments)


def test_name_and_description_can_be_replaced() -> None:
    tool = tool_of(forecast, name="weather", description="")
    assert (tool.name, tool.description) == ("weather", "")
    assert "description" not in tool.declaration()["function"]


def test_a_function_without_parameters_has_an_empty_schema() -> None:
    def now() -> str:
        return "12:00"

    assert tool_of(now).schema == {"type": "object", "properties": {}, "additionalProperties": False}


async def test_a_method_is_a_tool() -> None:
    class Shop:
        def price(self, item: "str") -> float:
            return len(item) / 2

    assert await tool_of(Shop().price).call({"item": "tea"}) == 1.5


async def test_a_function_that_returns_an_awaitable_is_awaited() -> None:
    def wrapped(city: str) -> Any:
        return forecast(Place(city))

    result: Any = await tool_of(wrapped).call({"city": "Ghent"})
    assert result["place"]["city"] == "Ghent"


def positional(a: int, /) -> None: ...
def variable(*a: int) -> None: ...
def keywords(**a: int) -> None: ...
def unknown(a: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def socket(a: type[int] | complex | memoryview) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (positional, "the parameter a: int cannot be passed by name"),
        (variable, r"the parameter \*a: int cannot"),
        (keywords, r"the parameter \*\*a: int cannot"),
        (unknown, "its annotations name 'Missing'"),
        (socket, "socket cannot be described by a JSON schema"),
        (print, "a tool is a function or a Tool, not builtin_function_or_method"),
        ("forecast", "not str"),
    ],
)
def test_a_function_that_cannot_be_described_is_refused(function: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        tool_of(function)


async def test_a_result_that_is_not_json_is_refused() -> None:
    def make() -> object:
        return object()

    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        await tool_of(make).call({})
    with pytest.raises(InvalidJSONError, match="the result of the tool raw"):
        await Tool("raw", {"type": "object"}, make).call({})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "a b"}, "letters, digits"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"schema": {"type": "string"}}, "of type 'object'"),
        ({"schema": {"type": "object", "default": float("nan")}}, r"the schema of a tool.* is not JSON"),
        ({"handler": "print"}, "must be callable, not str"),
    ],
)
def test_a_wrong_tool_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Tool(**{"name": "a", "schema": {"type": "object"}, "handler": print, **fields})


def test_an_attrs_class_is_a_form_of_an_answer() -> None:
    kind = output_kind(Trip)
    text = '{"stops": [{"city": "Ghent", "floor": 2}], "first_day": "2026-05-01", "back_to": {"city": "Rome"}}'
    assert kind.parse(text) == Trip([Place("Ghent", 2)], date(2026, 5, 1), back_to=Place("Rome"))
    assert kind.strict
    schema = kind.response_format()["json_schema"]["schema"]
    assert schema["required"] == ["stops", "first_day", "by", "back_to"]
    assert schema["additionalProperties"] is False
    assert "default" not in schema["properties"]["by"]


def test_a_type_error_of_an_attrs_validator_is_a_reason() -> None:
    @attrs.frozen
    class Odd:
        value: Any = attrs.field(validator=attrs.validators.instance_of(str))

    assert output_kind(Odd).parse('{"value": "x"}') == Odd("x")
    with pytest.raises(ValidationError, match="Value error, 'value' must be <class 'str'>"):
        output_kind(Odd).parse('{"value": 5}')


def test_pydantic_models_dataclasses_and_typed_dicts_are_forms() -> None:
    class Song(BaseModel):
        title: str = Field(min_length=2)
        year: int | None = None

    class Plain(TypedDict):
        title: str

    assert output_kind(Song).parse('{"title": "Hey", "year": null}') == Song(title="Hey")
    with pytest.raises(ValidationError, match="title: String should have at least 2"):
        output_kind(Song).parse('{"title": "H"}')
    assert output_kind(Song).response_format()["json_schema"]["schema"]["required"] == ["title", "year"]


def test_a_code_block_around_json_is_removed() -> None:
    assert output_kind(Place).parse('```json\n{"city": "Ghent"}\n```') == Place("Ghent")
    with pytest.raises(ValidationError, match="the value: Invalid JSON"):
        output_kind(Place).parse("Here you are: {}")
    with pytest.raises(ValidationError, match="unable to parse raw data"):
        output_kind(Place).parse('{"city": "\ud800"}')


def test_a_model_that_refers_to_itself_is_inlined_at_the_root() -> None:
    kind = output_kind(Node)
    assert kind.schema["type"] == "object"
    assert kind.schema["properties"]["children"] == {
        "items": {"$ref": "#/$defs/Node"},
        "title": "Children",
        "type": "array",
    }
    assert kind.parse('{"name": "a", "children": [{"name": "b"}]}').children[0].name == "b"


def test_classes_without_a_schema_are_refused() -> None:
    @attrs.define
    class Loop:
        inner: "Loop | None" = None

    for kind, reason in [(Loop, "names? 'Loop'"), (int, "int is not a class with fields"), (memoryview, "cannot be")]:
        with pytest.raises(ValidationError, match=reason):
            output_kind(kind)


@attrs.define
class Knot:
    inner: "Knot | None" = None


def test_an_attrs_class_that_refers_to_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="the attrs class Knot refers to itself"):
        output_kind(Knot)


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}},
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "additionalProperties": False,
                "required": ["a"],
            },
        ),
        ({"$ref": "#/$defs/A", "description": "d"}, {"anyOf": [{"$ref": "#/$defs/A"}], "description": "d"}),
        ({"oneOf": [{"type": "null"}], "discriminator": {}}, {"anyOf": [{"type": "null"}]}),
        ({"type": "array", "items": {"const": 1, "default": 1}}, {"type": "array", "items": {"const": 1}}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, None),
        ({"type": "object", "properties": {"a": {}}}, None),
        ({"type": "object", "properties": {}, "additionalProperties": True}, None),
        ({"type": "array", "prefixItems": [], "items": {"type": "null"}}, None),
        ({"type": "array"}, None),
        ({"anyOf": [{"type": "object"}]}, None),
    ],
)
def test_strict_mode_has_closed_objects_without_defaults(schema: Any, strict: Any) -> None:
    assert strict_schema(schema) == strict


def test_a_form_with_any_keys_is_not_strict() -> None:
    class Bag(BaseModel):
        counts: dict[str, int]

    kind = output_kind(Bag)
    assert kind.response_format()["json_schema"]["strict"] is False
    assert kind.parse('{"counts": {"a": 1}}') == Bag(counts={"a": 1})


@pytest.mark.parametrize("missing", ["pydantic", "docstring_parser"])
def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "luminoracore-sdk\[tools\]"'):
        tool_of(forecast)

"""JSON schemas of Python functions and classes, made and validated by pydantic."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import reduce
from operator import or_
from types import ModuleType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.structured import OutputKind
from luminoracore_sdk.application.tools import Tool
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["output_kind", "strict_schema", "tool_of"]

T = TypeVar("T")

_FENCED = re.compile(r"\s*```[a-z]*\s*\n(.*)\n\s*```\s*", re.DOTALL)
_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]+")
_NO_KEYWORD = frozenset(
    {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
)

_TYPES = frozenset({"$ref", "anyOf", "const", "enum", "oneOf", "type"})
"""Keys of a schema that say which values it allows."""

_NAMED = ("properties", "$defs")
"""Keys under which a schema has schemas by name."""


def _pydantic() -> ModuleType:
    return import_extra("pydantic", needed_by="a schema of a Python function or class", extra="tools")


# -- tools -------------------------------------------------------------------------------------------


def tool_of(function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> Tool:
    """Return a function as a tool.

    Its name, the annotations of its parameters (attrs classes, dataclasses and pydantic models included) and its
    docstring become the schema. The arguments of a call are validated, and converted to the annotated types;
    a result may be anything that pydantic can write as JSON, or an attrs instance.

    Args:
        function: A function or a method, synchronous or not; its parameters can be passed by name.
        name: Replaces its own name.
        description: Replaces that of its docstring.

    Raises:
        ValidationError: The function cannot be described.
        MissingDependencyError: The extra ``tools`` is not installed.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise ValidationError(f"a tool is a function or a Tool, not {type(function).__name__}")
    own_name = function.__name__
    parser = import_extra("docstring_parser", needed_by="a tool of a Python function", extra="tools")
    documented = parser.parse(inspect.getdoc(function) or "")
    about = {parameter.arg_name: parameter.description for parameter in documented.params}
    hints = _hints(function, own_name)
    fields = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in _NO_KEYWORD:
            raise ValidationError(f"tool {own_name}: the parameter {parameter} cannot be passed by name")
        hint = _described(hints.get(parameter.name, Any), about.get(parameter.name))
        fields[parameter.name] = (hint, parameter.default is parameter.empty)
    adapter = _adapter(_typed_dict(own_name, fields), own_name)
    schema: JSONObject = adapter.json_schema()
    for generated in ("title", "description"):
        schema.pop(generated, None)
    return Tool(
        name=name or own_name,
        schema={"properties": {}, **schema},
        handler=_validating(function, adapter),
        description=documented.description or "" if description is None else description,
    )


def _hints(described: Any, name: str) -> dict[str, Any]:
    try:
        return get_type_hints(described, include_extras=True)
    except NameError as exc:
        raise ValidationError(f"{name}: its annotations name {exc.name!r}, which is not defined in its module") from exc


def _validating(function: Callable[..., Any], adapter: Any) -> Callable[..., Any]:
    """Return a function that validates its arguments and makes its result JSON."""

    async def finished(result: Awaitable[Any]) -> Any:
        return _jsonable(await result)

    def called(**arguments: Any) -> Any:
        result = function(**_validated(adapter.validate_python, arguments))
        return finished(result) if inspect.isawaitable(result) else _jsonable(result)

    async def awaited(**arguments: Any) -> Any:
        return await called(**arguments)

    return awaited if inspect.iscoroutinefunction(function) else called


def _jsonable(result: Any) -> Any:
    to_jsonable = import_extra(
        "pydantic_core", needed_by="a tool of a Python function", extra="tools"
    ).to_jsonable_python
    return to_jsonable(result, fallback=_attrs_fields)


def _attrs_fields(value: Any) -> Any:
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


# -- structured output -------------------------------------------------------------------------------


def output_kind(kind: type[T]) -> OutputKind[T]:
    """Return a class as the form of an answer.

    Args:
        kind: An attrs class, a pydantic model, a dataclass or a TypedDict.

    Raises:
        ValidationError: The class cannot be described as a JSON object.
        MissingDependencyError: The extra ``tools`` is not installed.
    """
    name = getattr(kind, "__name__", str(kind))
    adapter = _adapter(_understood(kind), name)
    schema = _inlined_root(adapter.json_schema())
    if schema.get("type") != "object" or "properties" not in schema:
        raise ValidationError(f"{name} is not a class with fields; wrap it in one")
    strict = strict_schema(schema)
    return OutputKind(
        name=_OTHER_CHARACTERS.sub("_", name)[:64],
        schema=schema if strict is None else strict,
        strict=strict is not None,
        parse=lambda text: _validated(adapter.validate_json, _unfenced(text)),
    )


def _unfenced(text: str) -> str:
    """Return the content of a Markdown code block, which models put around JSON; other text as it is."""
    found = _FENCED.fullmatch(text)
    return found.group(1) if found else text


def _inlined_root(schema: JSONObject) -> JSONObject:
    """Return a schema whose root is an object; a class that refers to itself is only a reference there."""
    definitions = schema.get("$defs", {})
    root = definitions.get(str(schema.get("$ref")).rpartition("/")[2])
    return {**root, "$defs": definitions} if root else schema


def strict_schema(schema: JSONObject) -> JSONObject | None:
    """Return a schema in the form of OpenAI's strict mode; None: it has none, as for a dict with any keys.

    All properties are required, no others are allowed, there are no defaults, and references stand alone;
    OpenAI, "Structured model outputs", "Supported schemas".
    """
    return None if _is_open(schema) else _closed(schema)


def _is_open(schema: Any) -> bool:
    """Whether a schema says what strict mode cannot: any value, any key, several schemas at once."""
    if not isinstance(schema, dict) or not schema.keys() & _TYPES or schema.keys() & {"allOf", "prefixItems"}:
        return True
    if schema.get("type") == "object" and "properties" not in schema:
        return True
    if schema.get("additionalProperties", False) is not False:
        return True
    inner = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    inner += [one for name in _NAMED for one in schema.get(name, {}).values()]
    inner += [schema.get("items")] if schema.get("type") == "array" else []
    return any(map(_is_open, inner))


def _closed(schema: JSONObject) -> JSONObject:
    dropped = {"default", "discriminator", "oneOf"}
    closed: JSONObject = {key: value for key, value in schema.items() if key not in dropped}
    if "$ref" in closed and len(closed) > 1:
        closed["anyOf"] = [{"$ref": closed.pop("$ref")}]
    if alternatives := closed.get("anyOf") or schema.get("oneOf"):
        closed["anyOf"] = list(map(_closed, alternatives))
    if "items" in closed:
        closed["items"] = _closed(closed["items"])
    for name in _NAMED:
        if name in closed:
            closed[name] = {key: _closed(value) for key, value in closed[name].items()}
    if "properties" in closed:
        closed |= {"additionalProperties": False, "required": list(closed["properties"])}
    return closed


# -- types -------------------------------------------------------------------------------------------


def _adapter(hint: Any, name: str) -> Any:
    pydantic = _pydantic()
    try:
        adapter = pydantic.TypeAdapter(hint)
        adapter.json_schema()
    except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation) as exc:
        problem, _, _ = str(exc).partition("\n")
        raise ValidationError(f"{name} cannot be described by a JSON schema: {problem}") from exc
    return adapter


def _validated(validate: Callable[[Any], Any], value: Any) -> Any:
    """Return a validated value.

    Raises:
        ValidationError: What does not fit, without the values.
    """
    try:
        return validate(value)
    except _pydantic().ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        reasons = [f"{'.'.join(map(str, error['loc'])) or 'the value'}: {error['msg']}" for error in errors]
        raise ValidationError("; ".join(reasons)) from exc


def _described(hint: Any, description: str | None) -> Any:
    """Return a type hint with a description; one of its own takes precedence."""
    hint = _understood(hint)
    if not description:
        return hint
    base, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return Annotated[(base, _pydantic().Field(description=description), *metadata)]


def _understood(hint: Any, within: tuple[Any, ...] = ()) -> Any:
    """Return a type hint in which attrs classes are replaced by what pydantic understands.

    Args:
        hint: The type hint.
        within: The attrs classes that it is part of.
    """
    if isinstance(hint, type) and attrs.has(hint):
        return _attrs_hint(hint, within)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_understood(arguments[0], within), *arguments[1:])]
    understood = tuple(_understood(argument, within) for argument in arguments)
    if origin is None or understood == arguments:
        return hint
    return reduce(or_, understood) if origin in {Union, UnionType} else origin[understood]


def _attrs_hint(kind: Any, within: tuple[Any, ...]) -> Any:
    """Return a type whose validation creates an instance of an attrs class, which runs its validators."""
    if kind in within:
        raise ValidationError(f"the attrs class {kind.__name__} refers to itself; use a pydantic model")
    hints = _hints(kind, kind.__name__)
    fields = {
        field.alias: (
            _understood(hints.get(field.name, field.type or Any), (*within, kind)),
            field.default is attrs.NOTHING,
        )
        for field in attrs.fields(kind)
        if field.init
    }

    def built(values: Mapping[str, Any]) -> Any:
        try:
            return kind(**values)
        except TypeError as exc:  # of a validator; pydantic collects only the other kind
            raise ValueError(str(exc.args[0] if exc.args else exc)) from exc

    shape = _typed_dict(kind.__name__, fields)
    return Annotated[shape, _pydantic().AfterValidator(built)]


def _typed_dict(name: str, fields: Mapping[str, tuple[Any, bool]]) -> Any:
    """Return a TypedDict that allows no other keys.

    Args:
        name: Its name.
        fields: Type and whether it is required, by key.
    """
    typing_extensions = import_extra("typing_extensions", needed_by="a schema of a Python class", extra="tools")
    annotations = {
        key: hint if required else typing_extensions.NotRequired[hint] for key, (hint, required) in fields.items()
    }
    shape = typing_extensions.TypedDict(name, annotations)
    shape.__pydantic_config__ = {"extra": "forbid"}
    return shape

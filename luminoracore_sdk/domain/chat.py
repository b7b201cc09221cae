"""The requests to a model provider and its answers."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import attrs

from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json, copy_json

__all__ = ["ChatMessage", "ChatResponse", "ProviderConfig", "secret_names"]

_SECRET_NAME = re.compile(
    r"(api|access|private|secret|signing)[-_]?key|authorization|password|secret|credential|cookie|bearer"
    r"|^auth$|token$",
    re.IGNORECASE,
)
_HEADERS = re.compile(r"headers$", re.IGNORECASE)
_PUBLIC_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "referer",
        "user-agent",
        "x-title",
    }
)
_CREDENTIALS_IN_URL = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)


def _check_name(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ProviderError(f"provider_config needs a 'name', a non-empty string, not {type(value).__name__}")


def _check_text(_: object, attribute: Any, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ProviderError(
            f"provider_config: {attribute.name!r} must be a non-empty string, not {type(value).__name__}"
        )


def _check_url(_: object, __: object, value: str | None) -> None:
    if value is None:
        return
    if not value.startswith(("http://", "https://")):
        raise ProviderError("provider_config: 'base_url' must begin with http:// or https://")
    if _CREDENTIALS_IN_URL.match(value):
        raise ProviderError("provider_config: 'base_url' holds credentials; it is stored, so pass them as 'api_key'")
    if "?" in value or "#" in value:
        raise ProviderError(
            "provider_config: 'base_url' must not have a query; it is stored, and a query may hold a key"
        )


def _check_extra(_: object, __: object, value: object) -> None:
    if type(value) is not dict:
        raise ProviderError(f"provider_config: 'extra' must be a dict, not {type(value).__name__}")
    check_json(value, where="provider_config['extra']")


@attrs.frozen
class ProviderConfig:
    """The configuration of a provider.

    Attributes:
        name: A registered name: echo, openai, anthropic, deepseek, mistral, llama …
        api_key: The API key, which is never stored or shown; None: that of ``<NAME>_API_KEY`` in the
            environment.
        model: The model; None: the provider's default.
        base_url: The URL of a compatible server; None: the provider's own.
        extra: Settings of the provider class, a JSON object. Entries whose names denote secrets (api_key,
            authorization, token …) are treated like ``api_key``, and so are ``headers``, except those known to
            hold no key (User-Agent, HTTP-Referer, X-Title …).

    Raises:
        ProviderError: A field is invalid; the text never contains the key.
    """

    name: str = attrs.field(validator=_check_name)
    api_key: str | None = attrs.field(default=None, repr=False, validator=_check_text)
    model: str | None = attrs.field(default=None, validator=_check_text)
    base_url: str | None = attrs.field(default=None, validator=[_check_text, _check_url])
    extra: JSONObject = attrs.field(factory=dict, repr=False, validator=_check_extra)

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Parse a ``provider_config``.

        Raises:
            ProviderError: ``data`` is not a dict, or a field is missing, unknown or invalid.
        """
        if data is None:
            raise ProviderError("""provider_config needs a 'name', for example {"name": "echo"}""")
        if not isinstance(data, Mapping):
            raise ProviderError(f"provider_config must be a dict, not {type(data).__name__}")
        known = [field.name for field in attrs.fields(cls)]
        if unknown := sorted(str(key) for key in data if key not in known):
            raise ProviderError(f"provider_config has an unknown key {unknown[0]!a}; valid keys: {', '.join(known)}")
        if data.get("name") is None:
            raise ProviderError("provider_config needs a 'name'")
        extra = data.get("extra")
        values = {**data, "extra": {} if extra is None else extra}
        if isinstance(values["extra"], Mapping):
            check_json(dict(values["extra"]), where="provider_config['extra']")
            values["extra"] = copy_json(dict(values["extra"]))
        return cls(**values)

    def public(self) -> JSONObject:
        """Return the part that may be stored, without the key and the secrets in ``extra``."""
        return {
            "name": self.name,
            "model": self.model,
            "base_url": self.base_url,
            "extra": _without_secrets(self.extra),
        }

    def secrets(self) -> tuple[str, ...]:
        """Return every secret string, for redaction of error texts."""
        found = [self.api_key] if self.api_key else []
        texts = [item for _, item in _secret_entries(self.extra) if isinstance(item, str) and item]
        return (*found, *texts)


def secret_names(value: JSONValue) -> list[str]:
    """Return the keys, at any depth, whose names denote secrets, and those of headers that may hold one."""
    return [name for name, _ in _secret_entries(value)]


def _is_secret(name: str, *, in_headers: bool) -> bool:
    # each gateway has its own header for keys, so only those known to hold none are shown
    return bool(_SECRET_NAME.search(name)) or (in_headers and name.lower() not in _PUBLIC_HEADERS)


def _secret_entries(value: JSONValue, *, in_headers: bool = False) -> Iterator[tuple[str, JSONValue]]:
    if isinstance(value, dict):
        yield from ((key, item) for key, item in value.items() if _is_secret(key, in_headers=in_headers))
        for key, item in value.items():
            yield from _secret_entries(item, in_headers=bool(_HEADERS.search(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _secret_entries(item, in_headers=in_headers)


def _without_secrets(value: JSONValue, *, in_headers: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_secrets(item, in_headers=bool(_HEADERS.search(key)))
            for key, item in value.items()
            if not _is_secret(key, in_headers=in_headers)
        }
    if isinstance(value, list):
        return [_without_secrets(item, in_headers=in_headers) for item in value]
    return value


@attrs.frozen
class ChatMessage:
    """One message of a prompt.

    Attributes:
        role: system, user, assistant or tool.
        content: A string, or a JSON value that the provider supports, such as a list of parts.
        metadata: A JSON object; only ``tool_calls`` and ``tool_call_id`` are sent to the provider.
    """

    role: str
    content: JSONValue
    metadata: JSONObject = attrs.field(factory=dict)

    def to_dict(self) -> JSONObject:
        """Return role and content, which every chat protocol has."""
        return {"role": str(self.role), "content": self.content}


@attrs.frozen
class ChatResponse:
    """An answer, or one delta of a streamed answer.

    Attributes:
        content: The text; of a delta, only the new part. Never holds half of a character.
        role: assistant.
        finish_reason: Why the model stopped (stop, length, tool_calls, stopped …); None on all deltas but the
            last.
        usage: Token counts as the provider gives them, or None.
        model: The model that answered.
        provider_metadata: Whatever else the provider says: ``id``, ``tool_calls``, ``reasoning`` as it is given
            back, ``prompt`` (what the window left out, its tokens, a digest of its stable prefix), ``dropped``
            (parameters that the model refuses) …
        reasoning: The reasoning as text; of a delta, only the new part. None: there is none.
        refusal: The refusal as text, likewise.
        tool_calls: The whole tool calls, in OpenAI's form; of a stream, on the last delta.
        parts: Other parts of the answer, such as images; of a stream, on the last delta.
        id: Id of the stored message; on the last delta of a stream, None before it is stored.
        position: Its position.
    """

    content: str
    role: str = "assistant"
    finish_reason: str | None = None
    usage: JSONObject | None = None
    model: str | None = None
    provider_metadata: JSONObject = attrs.field(factory=dict)
    reasoning: str | None = attrs.field(default=None, kw_only=True)
    refusal: str | None = attrs.field(default=None, kw_only=True)
    tool_calls: list[JSONObject] = attrs.field(factory=list, kw_only=True)
    parts: list[JSONObject] = attrs.field(factory=list, kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)
    position: int | None = attrs.field(default=None, kw_only=True)

    def to_dict(self) -> JSONObject:
        """Return a JSON object; reasoning and what follows it only where they are set."""
        data: JSONObject = attrs.asdict(self)
        return {name: value for name, value in data.items() if name in _ALWAYS or value}


_ALWAYS = frozenset({"content", "role", "finish_reason", "usage", "model", "provider_metadata"})

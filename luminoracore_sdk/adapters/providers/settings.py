"""The settings in ``provider_config["extra"]`` of each provider class; other keys are refused."""

import math
import re
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.providers.bodies import DEFAULT_MAX_ANSWER_BYTES
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError

__all__ = [
    "AnthropicSettings",
    "EchoSettings",
    "HttpSettings",
    "OpenAISettings",
    "PydanticAISettings",
    "read_settings",
]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")

S = TypeVar("S")


def _wrong(attribute: Any, reason: str) -> ProviderError:
    return ProviderError(f"provider_config: extra[{attribute.name!r}] {reason}")


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)


def _check_timeout(_: object, attribute: Any, value: Any) -> None:
    if not _is_number(value) or value <= 0:
        raise _wrong(attribute, "must be a number of seconds above 0")


def _check_delay(_: object, attribute: Any, value: Any) -> None:
    if not _is_number(value) or value < 0:
        raise _wrong(attribute, "must be a number of seconds, 0 or above")


def _check_retries(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= 100:
        raise _wrong(attribute, "must be a whole number, 0..100")


def _check_size(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise _wrong(attribute, "must be a whole number of bytes above 0")


def _check_flag(_: object, attribute: Any, value: Any) -> None:
    if value is not None and type(value) is not bool:
        raise _wrong(attribute, "must be true or false")


def _check_text(_: object, attribute: Any, value: Any) -> None:
    if value is not None and not (isinstance(value, str) and _HEADER_VALUE.fullmatch(value)):
        raise _wrong(attribute, "must be a string of visible ASCII characters")


def _check_headers(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not dict:
        raise _wrong(attribute, "must be an object of header names and values")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name) or not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise _wrong(attribute, f"has a header that HTTP does not allow: {name[:40]!a}")


def _check_provider(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not dict:
        raise _wrong(attribute, "must be an object of arguments")
    for name in value:
        # an address here would be sent the session's key by a call that only changes ``extra``
        if name in {"api_key", "base_url"} or name.endswith(("client", "endpoint")):
            raise _wrong(attribute, f"must not hold {name[:40]!a}; 'api_key' and 'base_url' have their own place")


@attrs.frozen(kw_only=True)
class EchoSettings:
    """Settings of ``EchoProvider``.

    Attributes:
        delay: Seconds before each delta of a stream.
    """

    delay: float = attrs.field(default=0.0, validator=_check_delay)


@attrs.frozen(kw_only=True)
class HttpSettings:
    """Settings of every provider that is reached by HTTP.

    Attributes:
        timeout: Seconds without data from the server after which an attempt fails.
        max_retries: Number of further attempts after 429, 5xx and failed connections.
        headers: Sent with every request.
        max_answer_bytes: Largest answer, after decompression; a larger one is refused while it is read.
    """

    timeout: float = attrs.field(default=60.0, validator=_check_timeout)
    max_retries: int = attrs.field(default=2, validator=_check_retries)
    headers: dict[str, str] = attrs.field(factory=dict, repr=False, validator=_check_headers)
    max_answer_bytes: int = attrs.field(default=DEFAULT_MAX_ANSWER_BYTES, validator=_check_size)


@attrs.frozen(kw_only=True)
class OpenAISettings(HttpSettings):
    """Settings of ``OpenAIProvider``.

    Attributes:
        organization: OpenAI organization id.
        project: OpenAI project id.
        stream_usage: Request token counts in a stream; None: if the provider is known to support it.
        accept_unfinished: Take a stream that ends without a finish reason for a whole answer.
    """

    organization: str | None = attrs.field(default=None, validator=_check_text)
    project: str | None = attrs.field(default=None, validator=_check_text)
    stream_usage: bool | None = attrs.field(default=None, validator=_check_flag)
    accept_unfinished: bool = attrs.field(default=False, validator=_check_flag)


@attrs.frozen(kw_only=True)
class AnthropicSettings(HttpSettings):
    """Settings of ``AnthropicProvider``.

    Attributes:
        api_version: Version of the Messages API; None: that of the installed package.
    """

    api_version: str | None = attrs.field(default=None, validator=_check_text)


@attrs.frozen(kw_only=True)
class PydanticAISettings(HttpSettings):
    """Settings of ``PydanticAIProvider``.

    Attributes:
        provider: Further arguments of pydantic-ai's provider class, such as ``region_name`` of Bedrock's.
        accept_unfinished: Take a stream that ends without a finish reason for a whole answer.
    """

    provider: dict[str, Any] = attrs.field(factory=dict, repr=False, validator=_check_provider)
    accept_unfinished: bool = attrs.field(default=False, validator=_check_flag)


def read_settings(cls: type[S], config: ProviderConfig) -> S:
    """Read ``extra``.

    Raises:
        ProviderError: A key is unknown or a value is wrong; the error names the key and does not show the value.
    """
    known = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]
    if unknown := sorted(key for key in config.extra if key not in known):
        raise ProviderError(
            f"provider_config: 'extra' has an unknown key {unknown[0][:40]!a}; {config.name} knows: {', '.join(known)}"
        )
    return cls(**config.extra)

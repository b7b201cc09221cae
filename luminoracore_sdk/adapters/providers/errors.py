"""Turns what the client packages raise into our errors, in one place.

============================================  =============================
what happened                                 error
============================================  =============================
401, 403                                      ProviderAuthenticationError
429                                           ProviderRateLimitError
5xx; not reached                              ProviderConnectionError
silence for longer than ``timeout``           ProviderTimeoutError
other 4xx, an error event, anything else      ProviderError
cut in mid-stream                             ProviderStreamError
a body or an event that is not its protocol   ProviderResponseError
============================================  =============================

Our texts hold the status and the server's error code, never its prose: that may quote the prompt. The
prose stays in the chained error, without keys.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.redaction import Secrets, scrub_error
from luminoracore_sdk.domain.errors import (
    LuminoraCoreSDKError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
)

__all__ = ["translated_errors"]

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}")


@contextmanager
def translated_errors(
    driver: ModuleType, provider: str, secrets: Secrets, *, streaming: bool = False
) -> Iterator[None]:
    """Raise ours ``from`` theirs, both without secrets; our own errors and cancellation pass.

    Args:
        driver: The client package: openai or anthropic, which name their errors alike.
        provider: Its registered name, for the text.
        secrets: What must not be seen.
        streaming: The answer has begun.
    """
    try:
        yield
    except LuminoraCoreSDKError as exc:
        scrub_error(exc, secrets)
        raise
    except Exception as exc:
        scrub_error(exc, secrets)
        error = _translate(exc, driver, provider, streaming=streaming)
        scrub_error(error, secrets)
        raise error from exc


def _translate(exc: Exception, driver: ModuleType, provider: str, *, streaming: bool) -> ProviderError:
    if isinstance(exc, (driver.APITimeoutError, *_transport_errors("TimeoutException"))):
        return ProviderTimeoutError(f"{provider} did not answer in time")
    if isinstance(exc, (driver.APIConnectionError, *_transport_errors("RequestError"))):
        broke = ProviderStreamError(f"{provider}: the connection broke in mid-answer")
        return broke if streaming else ProviderConnectionError(f"{provider} could not be reached")
    if isinstance(exc, driver.APIStatusError):
        return _from_status(exc, provider)
    if isinstance(exc, (driver.APIResponseValidationError, json.JSONDecodeError, UnicodeDecodeError)):
        return ProviderResponseError(f"{provider} sent something that its protocol does not have")
    if isinstance(exc, driver.APIError):
        return ProviderError(f"{provider} reported an error in mid-answer{_code(exc)}")
    return ProviderError(f"{provider}: the client package fails with {type(exc).__name__}")


def _transport_errors(name: str) -> list[type[Exception]]:
    """Return an error class of the HTTP library: httpx, or httpx2 in newer clients.

    While a stream is read, anthropic 2 lets these pass as they are.
    """
    modules = (sys.modules.get(library) for library in ("httpx", "httpx2"))
    return [getattr(module, name) for module in modules if module is not None]


def _from_status(exc: Any, provider: str) -> ProviderError:
    status = exc.status_code
    text = f"{provider} answered {status}{_code(exc)}"
    if status < 400:  # anthropic reports an error event with the status of the stream, 200
        return ProviderError(f"{provider} reported an error in mid-answer{_code(exc)}")
    if status in {401, 403}:
        return ProviderAuthenticationError(f"{text}: the key is refused")
    if status == 429:
        return ProviderRateLimitError(text, retry_after=_retry_after(exc.response.headers))
    if status >= 500:
        return ProviderConnectionError(text)
    return ProviderError(text, details={"status": status})


def _code(exc: Any) -> str:
    """Return the error code in brackets, if it is an identifier and not prose."""
    body = exc.body if isinstance(exc.body, dict) else {}
    inner = body.get("error")
    for source in (inner if isinstance(inner, dict) else {}, body):
        for name in ("code", "type"):
            code = source.get(name)
            if isinstance(code, str) and code != "error" and _CODE.fullmatch(code):
                return f" ({code})"
    return ""


def _retry_after(headers: Any) -> float | None:
    """Return the seconds of ``retry-after-ms`` or ``Retry-After``; None for a date or nonsense."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None

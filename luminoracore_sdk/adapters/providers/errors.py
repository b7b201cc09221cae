"""Translation of the client packages' errors into this package's, in one place.

============================================  =============================
cause                                         error
============================================  =============================
401, 403                                      ProviderAuthenticationError
429                                           ProviderRateLimitError
5xx; server unreachable                       ProviderConnectionError
no data for longer than ``timeout``           ProviderTimeoutError
other 4xx, an error event, anything else      ProviderError
stream cut off                                ProviderStreamError
a body or an event outside the protocol       ProviderResponseError
============================================  =============================

Error texts contain the status and the server's error code, never its message, which may quote the prompt. The
message stays in the chained error, without keys.
"""

import json
import math
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import attrs

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

__all__ = [
    "Peer",
    "code_text",
    "connection_error",
    "own_error",
    "reported_error",
    "setup_hint",
    "status_error",
    "timeout_error",
    "translated_errors",
]

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}")

_REASONS: tuple[tuple[type[OSError], str], ...] = (
    (ConnectionRefusedError, " (connection refused); is it running?"),
    (socket.gaierror, " (its name has no address)"),
    (ssl.SSLCertVerificationError, " (its certificate is not trusted)"),
    (ssl.SSLError, " (TLS failed)"),
    (ConnectionResetError, " (connection reset)"),
)
_PROXY = " (the proxy refused the connection; see HTTPS_PROXY, HTTP_PROXY and ALL_PROXY)"
"""Text by the operating system's error in the chain of the client's error; the first match wins."""


@attrs.frozen(kw_only=True)
class Peer:
    """The server of a provider.

    Attributes:
        name: The registered name of the provider.
        base_url: Its URL; without credentials, which ``ProviderConfig`` refuses.
    """

    name: str
    base_url: str

    @property
    def address(self) -> str:
        """The base URL as errors show it, without query and fragment, which may hold a key."""
        return re.split("[?#]", self.base_url, maxsplit=1)[0]


@contextmanager
def translated_errors(driver: ModuleType, peer: Peer, secrets: Secrets, *, streaming: bool = False) -> Iterator[None]:
    """Translate a client's error, and remove secrets from both; errors of this package and cancellation pass.

    Args:
        driver: The client package, openai or anthropic; their error classes have the same names.
        peer: The server, for the text.
        secrets: Removed from errors.
        streaming: Whether the answer has begun.
    """
    try:
        yield
    except LuminoraCoreSDKError as exc:
        scrub_error(exc, secrets)
        raise
    except Exception as exc:
        error = _translate(exc, driver, peer, streaming=streaming)
        scrub_error(exc, secrets)
        scrub_error(error, secrets)
        raise error from exc


def _translate(  # noqa: PLR0911 - a table of kinds
    exc: Exception, driver: ModuleType, peer: Peer, *, streaming: bool
) -> ProviderError:
    provider = peer.name
    if isinstance(exc, driver.APIConnectionError) and (own := own_error(exc)):
        return own
    if isinstance(exc, (driver.APITimeoutError, *_transport_errors("TimeoutException"))):
        return timeout_error(exc, peer, streaming=streaming)
    if isinstance(exc, (driver.APIConnectionError, *_transport_errors("RequestError"))):
        broke = ProviderStreamError(f"{provider}: the connection broke during the answer")
        return broke if streaming else connection_error(exc, peer)
    if isinstance(exc, driver.APIStatusError):
        return _from_status(exc, provider)
    if isinstance(exc, (driver.APIResponseValidationError, json.JSONDecodeError, UnicodeDecodeError)):
        return ProviderResponseError(f"{provider} sent a response outside its protocol")
    if isinstance(exc, driver.APIError):
        return reported_error(getattr(exc, "body", None), provider)
    return ProviderError(f"{provider}: the client package failed with {type(exc).__name__}{setup_hint(exc)}")


def _transport_errors(name: str) -> list[type[Exception]]:
    """Return an error class of the HTTP library: httpx, or httpx2 in newer clients.

    anthropic 2 does not translate these while a stream is read.
    """
    modules = (sys.modules.get(library) for library in ("httpx", "httpx2"))
    return [getattr(module, name) for module in modules if module is not None]


def timeout_error(exc: Exception, peer: Peer, *, streaming: bool) -> ProviderTimeoutError:
    """Return an error that names the limit of this call, which may have had its own ``timeout``."""
    limit, connecting = "in time", False
    for link in _causes(exc):
        if isinstance(link, tuple(_transport_errors("TimeoutException"))):
            phase = type(link).__name__.removesuffix("Timeout").lower()  # connect, read, write, pool
            seconds = None
            with suppress(RuntimeError):  # the error knows no request
                seconds = link.request.extensions.get("timeout", {}).get(phase)  # type: ignore[attr-defined]
            limit = limit if seconds is None else f"within {seconds:g} seconds"
            connecting = phase == "connect"
            break
    if streaming:
        return ProviderTimeoutError(f"{peer.name} stopped sending during the answer: no more data {limit}")
    if connecting:
        return ProviderTimeoutError(f"{peer.name} could not be reached at {peer.address} {limit}")
    return ProviderTimeoutError(f"{peer.name} at {peer.address} did not answer {limit}")


def connection_error(exc: Exception, peer: Peer) -> ProviderConnectionError:
    """Return an error that says why a server could not be reached, as far as it is known."""
    links = list(_causes(exc))
    fitting = [text for kind, text in _REASONS if any(isinstance(link, kind) for link in links)]
    if any(isinstance(link, tuple(_transport_errors("ProxyError"))) for link in links):
        fitting.insert(0, _PROXY)
    return ProviderConnectionError(f"{peer.name} could not be reached at {peer.address}{next(iter(fitting), '')}")


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, including those in a group, as for a host with several addresses.

    httpcore2 2.16 stores the cause as its argument. Contexts are skipped: they hold the error of another provider
    when the caller called this one while handling it.
    """
    waiting: list[Any] = [exc]
    while waiting:
        link = waiting.pop()
        if isinstance(link, BaseException):
            yield link
            waiting += [link.__cause__, *link.args, *getattr(link, "exceptions", ())]


def own_error(exc: BaseException) -> ProviderError | None:
    """Return the error that the bounded body raised while the client was reading it."""
    return next((link for link in _causes(exc) if isinstance(link, ProviderResponseError)), None)


def setup_hint(exc: BaseException) -> str:
    """Return what to do about a client that cannot even be made."""
    for link in _causes(exc):
        if isinstance(link, ImportError) and "socks" in str(link).lower():
            return ': a SOCKS proxy is configured and needs the package "socksio": pip install "httpx[socks]"'
        if isinstance(link, FileNotFoundError):
            return ": a certificate file is configured that does not exist; see SSL_CERT_FILE and SSL_CERT_DIR"
    return ""


def _from_status(exc: Any, provider: str) -> ProviderError:
    status = exc.status_code
    if status < 400:  # anthropic gives an error event the status of the stream, 200
        return reported_error(getattr(exc, "body", None), provider)
    text = f"{provider} answered {status}{code_text(exc.body)}"
    return status_error(status, text, retry_after=_retry_after(exc.response.headers))


def status_error(status: int, text: str, *, retry_after: float | None = None) -> ProviderError:
    """Return the error that a status means."""
    if status in {401, 403}:
        return ProviderAuthenticationError(f"{text}: the key was refused")
    if status == 429:
        return ProviderRateLimitError(text, retry_after=retry_after)
    if status >= 500:
        return ProviderConnectionError(text)
    return ProviderError(text, details={"status": status})


_STATUS_OF_CODE = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "server_error": 500,
    "api_error": 500,
    "internal_server_error": 500,
    "overloaded_error": 529,
    "unavailable": 503,
}
"""Statuses of the codes that OpenAI, Anthropic and Google give to errors."""


def reported_error(error: Any, provider: str) -> ProviderError:
    """Return the error that a server reports in the body of an answer with status 200, or in mid-stream.

    Args:
        error: The reported object, or the body that holds it under ``error``.
        provider: Named in the text.
    """
    inner = error.get("error") if isinstance(error, dict) and isinstance(error.get("error"), dict) else error
    inner = inner if isinstance(inner, dict) else {}
    text = f"{provider} reported an error in its answer{code_text(inner)}"
    for name in ("code", "status", "type"):
        value = inner.get(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        status = value if type(value) is int else _STATUS_OF_CODE.get(str(value).lower())
        if status is not None and 400 <= status < 600:
            return status_error(status, f"{text}, {status}" if type(value) is int else text)
    return ProviderError(text)


def code_text(body: Any) -> str:
    """Return the error code in parentheses if it is an identifier, else an empty string."""
    body = body if isinstance(body, dict) else {}
    inner = body.get("error")
    for source in (inner if isinstance(inner, dict) else {}, body):
        for name in ("code", "type"):
            code = source.get(name)
            if isinstance(code, str) and code != "error" and _CODE.fullmatch(code):
                return f" ({code})"
    return ""


def _retry_after(headers: Any) -> float | None:
    """Return the seconds of ``retry-after-ms`` or ``Retry-After``, or None for a date or an invalid value."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None

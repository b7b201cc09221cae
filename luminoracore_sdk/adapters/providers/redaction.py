"""Removal of keys from errors and logs, including keys that a server sends back.

A server may repeat the key in an error body or a header, and the HTTP clients log headers at DEBUG (httpcore's
``receive_response_headers``, anthropic's ``HTTP Response``). Therefore every string that reaches an error or one of
their loggers is searched for the keys in use.
"""

import logging
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from luminoracore_sdk.domain.chat import ProviderConfig

__all__ = ["Secrets", "guard_logs", "scrub_error"]

_SHOWN = "[redacted]"
_PLAIN = (str, bytes, int, float, list, tuple, dict, BaseException, type(None))
_CORES = ("httpcore", "httpcore2")
_LOGGERS = (
    "openai._base_client",
    "openai._response",
    "openai._legacy_response",
    "anthropic._base_client",
    "anthropic._response",
    "httpx",
    "httpx2",
    *(f"{core}.{part}" for core in _CORES for part in ("connection", "http11", "http2", "proxy", "socks")),
)


class Secrets:
    """The secrets of one provider; of "Bearer abcdefgh" the second word alone is a secret too.

    Strings of fewer than 4 characters are ignored: removing them would only garble the text.
    """

    def __init__(self, config: ProviderConfig) -> None:
        found = config.secrets()
        texts = {*found, *(text.rpartition(" ")[2] for text in found)}
        self._texts = sorted((text for text in texts if len(text) >= 4), key=len, reverse=True)
        _LIVE[id(self)] = self

    def __repr__(self) -> str:
        return f"Secrets({len(self._texts)} texts)"

    def are_in(self, text: str) -> bool:
        """Return whether a string contains a secret."""
        return any(secret in text for secret in self._texts)

    def scrub(self, value: Any) -> Any:
        """Return a string, bytes or a collection of them without secrets; anything else unchanged."""
        if isinstance(value, str):
            for text in self._texts:
                value = value.replace(text, _SHOWN)
        elif isinstance(value, bytes):
            for text in self._texts:
                value = value.replace(text.encode(), _SHOWN.encode())
        elif type(value) is dict:
            return {self.scrub(key): self.scrub(item) for key, item in value.items()}
        elif type(value) in {list, tuple}:
            return type(value)(self.scrub(item) for item in value)
        return value


_LIVE: WeakValueDictionary[int, Secrets] = WeakValueDictionary()


def scrub_error(error: BaseException, secrets: Secrets) -> None:
    """Remove the secrets, and requests and responses, from an error, its causes and its contexts, in place."""
    for link in _chain(error):
        BaseException.__setattr__(link, "args", secrets.scrub(link.args))  # works for frozen attrs classes too
        if isinstance(link, UnicodeDecodeError | UnicodeEncodeError):
            link.object = secrets.scrub(link.object)
        for name, value in list(vars(link).items()):
            # a request or a response holds the key in its headers, and may repeat it in its body
            kept = secrets.scrub(value) if isinstance(value, _PLAIN) else None
            vars(link)[name] = None if secrets.are_in(repr(kept)) else kept


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


class _RedactingFilter(logging.Filter):
    """Remove the keys of all living providers from a log record before handlers see it."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for reference in _LIVE.valuerefs():
            secrets = reference()
            if secrets is None:
                continue
            scrubbed = secrets.scrub(text)
            if scrubbed != text:
                text = record.msg = scrubbed
                record.args = ()
            if record.exc_info and record.exc_info[1]:
                scrub_error(record.exc_info[1], secrets)
        return True


_FILTER = _RedactingFilter()


def guard_logs() -> None:
    """Add the filter to the loggers of the HTTP clients, once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)

"""Vendors' own APIs through pydantic-ai: Gemini's, Mistral's, Bedrock's, Cohere's and others."""

import asyncio
import inspect
import re
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.providers.bodies import bounded_client
from luminoracore_sdk.adapters.providers.clients import LoopClients
from luminoracore_sdk.adapters.providers.credentials import checked_key, with_environment_key
from luminoracore_sdk.adapters.providers.errors import (
    Peer,
    code_text,
    connection_error,
    own_error,
    setup_hint,
    status_error,
    timeout_error,
)
from luminoracore_sdk.adapters.providers.http import with_dropped
from luminoracore_sdk.adapters.providers.presets import KeyRule, Preset
from luminoracore_sdk.adapters.providers.redaction import Secrets, guard_logs, scrub_error
from luminoracore_sdk.adapters.providers.settings import PydanticAISettings, read_settings
from luminoracore_sdk.adapters.providers.wire import storable
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import (
    LuminoraCoreSDKError,
    MissingDependencyError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
    UnsupportedContentError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.surrogates import SurrogateJoiner
from luminoracore_sdk.domain.vendors import VendorRules, rules_of

__all__ = ["PydanticAIProvider"]

_EXTRA = "pydantic-ai"
_VENDOR_EXTRA = re.compile(r"pydantic-ai-slim\[([\w-]+)\]")
_RENAMED = {"stop": "stop_sequences", "reasoning_effort": "thinking", "max_completion_tokens": "max_tokens"}
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0


@attrs.frozen
class _Client:
    """A model and the HTTP client that it uses; None: the vendor's package brings its own."""

    model: Any
    http_client: Any

    async def close(self) -> None:
        if self.http_client is not None:
            await self.http_client.aclose()


class PydanticAIProvider(BaseProvider):
    """Call a vendor's own API through pydantic-ai's model layer.

    ``model`` is pydantic-ai's ``provider:model``: ``google:gemini-3.6-flash``, ``mistral:mistral-small-latest``,
    ``bedrock:…``, ``cohere:…``. The vendor's package is an extra of ``pydantic-ai-slim``. Without a key, the
    variable of the vendor is used (``GOOGLE_API_KEY``, ``MISTRAL_API_KEY`` …). ``extra`` may hold what
    ``PydanticAISettings`` has. ``tools``, ``tool_choice``, ``response_format``, ``stop`` and the common parameters
    are taken in OpenAI's form, others by pydantic-ai's names (``google_thinking_config``); those that a vendor does
    not take are named in ``provider_metadata["dropped"]``.

    Raises:
        MissingDependencyError: pydantic-ai or the vendor's package is not installed.
        ProviderAuthenticationError: The key is missing.
        ProviderError: pydantic-ai knows no such provider, or another setting is wrong.
    """

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(with_environment_key(config))
        self._settings = read_settings(PydanticAISettings, self.config)
        self._secrets = Secrets(self.config)
        self._key = checked_key(self.config, Preset(key=KeyRule.NEVER))
        name = self.config.model or self.get_default_model()
        self._vendor, colon, self._model_name = name.partition(":")
        if not colon or not self._vendor or not self._model_name:
            raise ProviderError(f"{self.config.name}: 'model' is written 'provider:model', such as 'mistral:…'")
        for module in ("pydantic_ai.direct", "pydantic_ai.models", "pydantic_ai.exceptions", "pydantic_ai.settings"):
            import_extra(module, needed_by=type(self).__name__, extra=_EXTRA)
        self._driver = import_extra("pydantic_ai", needed_by=type(self).__name__, extra=_EXTRA)
        # not before: it imports pydantic-ai
        self._forms = import_extra(
            "luminoracore_sdk.adapters.providers.vendor_messages", needed_by=type(self).__name__, extra=_EXTRA
        )
        with self._errors():
            self._provider_class = self._find_provider_class()
            first = self._new_client()  # checks the settings; opens no connection
        self._profile, self._unsupported = first.model.profile, first.model.unsupported_settings
        self._ready = [first]
        self._clients = LoopClients(self._next_client, _Client.close)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.config.name!r}, model={self.config.model!r})"

    @property
    def rules(self) -> VendorRules:
        """What the vendor accepts, by pydantic-ai's name of it."""
        return rules_of(f"pydantic-ai:{self._vendor}")

    def get_default_model(self) -> str:
        """Raise ``ProviderError``: the vendor is part of the model's name."""
        raise ProviderError(f"{self.config.name} has no default model: give 'model' as 'provider:model'")

    async def chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> ChatResponse:
        """Return the complete answer; see ``BaseProvider.chat``."""
        request, dropped = self._request(messages, temperature, max_tokens, kwargs)
        retry = 0
        while True:
            try:
                with self._errors():
                    model = (await self._clients.get()).model
                    answer = await self._driver.direct.model_request(model, **request)
                    response = self._forms.whole_answer(answer, self.config.name, self.rules.name)
                    return with_dropped(storable(response, provider=self.config.name), dropped)
            except (ProviderConnectionError, ProviderRateLimitError) as exc:
                retry += 1
                await self._wait(exc, retry)

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; see ``BaseProvider.stream_chat``."""
        request, dropped = self._request(messages, temperature, max_tokens, kwargs)
        retry, begun = 0, False
        while True:
            try:
                with self._errors() as phase:
                    model = (await self._clients.get()).model
                    async with self._driver.direct.model_request_stream(model, **request) as stream:
                        phase["streaming"] = begun = True
                        texts = SurrogateJoiner(), SurrogateJoiner()
                        async for event in stream:
                            delta = self._delta(event, texts)
                            if delta is not None:
                                yield delta
                        yield with_dropped(self._last(stream.get(), texts), dropped)
                        return
            except (ProviderConnectionError, ProviderRateLimitError) as exc:
                if begun:
                    raise
                retry += 1
                await self._wait(exc, retry)

    async def close(self) -> None:
        """Close the client of the running event loop; the next call creates a new one."""
        await self._clients.close()

    def _find_provider_class(self) -> Any:
        try:
            return self._driver.providers.infer_provider_class(self._vendor)
        except ValueError as exc:
            raise ProviderError(f"{self.config.name}: pydantic-ai knows no provider {self._vendor[:40]!a}") from exc

    def _next_client(self) -> _Client:
        try:
            return self._ready.pop()  # a client takes 40 ms to make, most of them for its certificates
        except IndexError:
            return self._new_client()

    def _new_client(self) -> _Client:
        guard_logs()
        takes = inspect.signature(self._provider_class).parameters
        options: dict[str, Any] = dict(self._settings.provider)
        for name, value in (("api_key", self._key), ("base_url", self.config.base_url)):
            if value is not None and name not in takes:
                raise ProviderError(f"{self.config.name}: {self._provider_class.__name__} takes no {name!r}")
            if value is not None:
                options[name] = value
        if unknown := sorted(set(options) - set(takes)):
            raise ProviderError(f"{self.config.name}: {self._provider_class.__name__} takes no {unknown[0][:40]!a}")
        http_client = self._new_http_client(takes["http_client"]) if "http_client" in takes else None
        if http_client is not None:
            options["http_client"] = http_client
        elif "aws_read_timeout" in takes:
            options.setdefault("aws_read_timeout", self._settings.timeout)
        with warnings.catch_warnings():
            # Google's class takes a timeout of 5 seconds for httpx's default, and warns
            warnings.filterwarnings("ignore", message="The `http_client` passed to the Google provider")
            provider = self._provider_class(**options)
        name = f"{self._vendor}:{self._model_name}"
        return _Client(self._driver.models.infer_model(name, lambda _: provider), http_client)

    def _new_http_client(self, parameter: inspect.Parameter) -> Any:
        """Return a client of the library that the provider class asks for: httpx (Cohere) or httpx2."""
        library = "httpx" if str(parameter.annotation).startswith("httpx.") else "httpx2"
        return bounded_client(
            import_extra(library, needed_by=type(self).__name__, extra=_EXTRA).AsyncClient,
            max_answer_bytes=self._settings.max_answer_bytes,
            provider=self.config.name,
            timeout=self._settings.timeout,
            headers=self._settings.headers,
            follow_redirects=False,
        )

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the arguments of the call, and the parameters that the vendor does not take."""
        kwargs = dict(kwargs)
        native = bool(self._profile.get("supports_json_schema_output"))
        form = (kwargs.pop(name, None) for name in ("tools", "tool_choice", "response_format"))
        parameters, settings = self._forms.request_parameters(*form, native=native)
        settings |= {"temperature": temperature, "max_tokens": max_tokens}
        # mistralai overrides the timeout of the HTTP client with 300 seconds; failed requests are repeated here
        settings |= {"timeout": self._settings.timeout, "max_retries": 0}
        known = self._driver.settings.ModelSettings.__annotations__
        given = {_RENAMED.get(name, name): value for name, value in kwargs.items()}
        for name, value in given.items():
            if name not in known and not name.startswith(f"{self._vendor.replace('-', '_')}_"):
                raise ProviderError(f"{self.config.name}: pydantic-ai has no setting {name[:40]!a}")
            settings[name] = _setting(name, value)
        dropped = sorted(name for name in given.keys() & self._unsupported if given[name] is not None)
        settings = {
            name: value for name, value in settings.items() if value is not None and name not in self._unsupported
        }
        request = {
            "messages": self._forms.history(messages, self.rules.name),
            "model_settings": settings,
            "model_request_parameters": parameters,
        }
        return request, dropped

    def _delta(self, event: Any, texts: tuple[SurrogateJoiner, SurrogateJoiner]) -> ChatResponse | None:
        """Return the delta of an event, without halves of characters; None: it brings nothing to show."""
        ai = self._driver.messages
        content = thought = ""
        match event:
            case ai.PartStartEvent(part=ai.TextPart(content=str(text))):
                content = text
            case ai.PartStartEvent(part=ai.ThinkingPart(content=str(text))):
                thought = text
            case ai.PartDeltaEvent(delta=ai.TextPartDelta(content_delta=str(text))):
                content = text
            case ai.PartDeltaEvent(delta=ai.ThinkingPartDelta(content_delta=str(text))):
                thought = text
        content, thought = texts[0].push(content), texts[1].push(thought)
        return ChatResponse(content=content, reasoning=thought or None) if content or thought else None

    def _last(self, answer: Any, texts: tuple[SurrogateJoiner, SurrogateJoiner]) -> ChatResponse:
        """Return the delta that ends the answer.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
        """
        name = self.config.name
        finished = answer.finish_reason or (answer.provider_details or {}).get("finish_reason")
        if answer.state != "complete" or not (finished or (self._settings.accept_unfinished and answer.parts)):
            raise ProviderStreamError(f"{name}: the stream ended before the answer did")
        whole = storable(self._forms.whole_answer(answer, name, self.rules.name), provider=name)
        return attrs.evolve(whole, content=texts[0].end(), reasoning=texts[1].end() or None)

    async def _wait(self, exc: ProviderConnectionError | ProviderRateLimitError, retry: int) -> None:
        """Wait before another attempt, or raise the error if there is none left."""
        if retry > self._settings.max_retries:
            raise exc
        asked = exc.retry_after if isinstance(exc, ProviderRateLimitError) else None
        delay = _FIRST_DELAY * 2 ** min(retry - 1, 10) if asked is None else asked
        if delay > _LONGEST_DELAY and asked is not None:
            raise exc
        await asyncio.sleep(min(delay, _LONGEST_DELAY))

    @contextmanager
    def _errors(self) -> Iterator[JSONObject]:
        """Translate pydantic-ai's errors, and remove secrets; the yielded ``streaming`` says that the answer began."""
        phase: JSONObject = {"streaming": False}
        try:
            yield phase
        except LuminoraCoreSDKError as exc:
            scrub_error(exc, self._secrets)
            raise
        except Exception as exc:
            error = self._translated(exc, streaming=phase["streaming"])
            scrub_error(exc, self._secrets)
            scrub_error(error, self._secrets)
            raise error from exc

    def _translated(self, exc: Exception, *, streaming: bool) -> LuminoraCoreSDKError:  # noqa: PLR0911 - a table
        ai, name = self._driver.exceptions, self.config.name
        peer = Peer(name=name, base_url=self.config.base_url or self._vendor)
        if own := own_error(exc):
            return own
        if isinstance(exc, ImportError):
            found = _VENDOR_EXTRA.search(str(exc))
            return MissingDependencyError(
                f"{name} with {self._vendor!r}", found[1] if found else self._vendor, "pydantic-ai-slim"
            )
        if isinstance(exc, NotImplementedError):  # the vendor's model refuses a part while it writes the request
            return UnsupportedContentError(provider=self.rules.name, part="file", role="user")
        if isinstance(exc, ai.ModelTimeoutError):
            return timeout_error(exc, peer, streaming=streaming)
        if isinstance(exc, ai.ModelConnectionError):
            broke = ProviderStreamError(f"{name}: the connection broke during the answer")
            return broke if streaming else connection_error(exc, peer)
        if isinstance(exc, ai.ModelHTTPError):
            # Gemini answers 400 to a wrong key
            status = 401 if isinstance(exc, ai.ModelAuthenticationError) else exc.status_code
            code = code_text({"code": exc.provider_error_code, "type": exc.provider_error_type})
            return status_error(status, f"{name} answered {exc.status_code}{code}", retry_after=exc.retry_after)
        if isinstance(exc, ai.ModelAPIError | ai.UnexpectedModelBehavior | AssertionError | ValueError):
            return ProviderResponseError(f"{name} sent a response outside its protocol")
        if isinstance(exc, ai.UserError) and "API_KEY" in str(exc):
            variable = re.search(r"[A-Z][A-Z_]*_API_KEY|CO_API_KEY", str(exc))
            hint = f" or set {variable[0]}" if variable else ""
            return ProviderAuthenticationError(f"{name} needs a key for {self._vendor!r}: pass 'api_key'{hint}")
        if isinstance(exc, ai.UserError):
            return ProviderError(f"{name}: pydantic-ai refuses the request: {exc}")
        return ProviderError(f"{name}: the client package failed with {type(exc).__name__}{setup_hint(exc)}")


def _setting(name: str, value: Any) -> Any:
    if name == "stop_sequences" and isinstance(value, str):
        return [value]
    if name == "thinking" and value == "none":
        return False
    return value

"""The provider pool, keys of sessions, locks, and call parameters."""

import asyncio
import gc
import weakref
from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.application.provider_pool import ProviderPool, SessionProviders
from luminoracore_sdk.application.session_access import SessionLocks, TurnLock, locks_of
from luminoracore_sdk.application.turns import DEFAULT_TEMPERATURE, generation_parameters
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderAuthenticationError, ProviderError, ValidationError
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.providers import OpenAIProvider, ProviderFactory
from luminoracore_sdk.session import InMemoryStorage
from tests.support.stub_provider import StubProvider


class Fake(StubProvider):
    def get_default_model(self) -> str:
        return "fake-1"


class Registry:
    def __init__(self) -> None:
        self.made: list[Fake] = []

    def needs_key(self, config: ProviderConfig) -> bool:
        return True

    def create_provider(self, config: ProviderConfig) -> BaseProvider:
        if config.name == "wrong":
            raise ProviderError("wrong")
        self.made.append(Fake(config))
        return self.made[-1]


@pytest.fixture
def registry() -> Registry:
    return Registry()


def session(provider: dict[str, Any] | None) -> Session:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Session(session_id="s", personality={}, provider=provider, created_at=now, last_activity=now)


async def test_sessions_of_one_configuration_share_a_provider(registry: Registry) -> None:
    pool = ProviderPool(registry)
    for _ in range(2):
        async with pool.lease(ProviderConfig("a", extra={"list": [1, {"x": None}]})):
            pass
    assert len(registry.made) == 1


@pytest.mark.parametrize(
    "other",
    [
        ProviderConfig("b"),
        ProviderConfig("a", api_key="k"),
        ProviderConfig("a", model="m"),
        ProviderConfig("a", base_url="http://localhost"),
        ProviderConfig("a", extra={"x": 1}),
        ProviderConfig("a", extra={"x": True}),
        ProviderConfig("a", extra={"x": [1]}),
    ],
    ids=["name", "key", "model", "url", "extra", "type of extra", "shape of extra"],
)
async def test_different_configurations_have_different_providers(registry: Registry, other: ProviderConfig) -> None:
    pool = ProviderPool(registry)
    for config in (ProviderConfig("a"), ProviderConfig("a", extra={"x": 1.0}), other):
        async with pool.lease(config):
            pass
    assert len(registry.made) == 3


async def test_only_idle_providers_above_the_size_are_closed(registry: Registry) -> None:
    pool = ProviderPool(registry, size=1)
    async with pool.lease(ProviderConfig("busy")):
        for name in ("idle-1", "idle-2"):
            async with pool.lease(ProviderConfig(name)):
                pass
        assert [provider.closed for provider in registry.made] == [False, True, True]
    await pool.close()
    assert registry.made[0].closed is True


async def test_the_default_model_fills_in(registry: Registry) -> None:
    providers = SessionProviders(registry)
    assert providers.checked({"name": "a"}).model == "fake-1"
    assert providers.checked(ProviderConfig("a", model="m")).model == "m"
    with pytest.raises(ProviderError):
        providers.checked({"name": "wrong"})


async def test_a_passed_key_is_used_until_it_is_forgotten(registry: Registry) -> None:
    providers = SessionProviders(registry)
    stored = ProviderConfig("a", model="m").public()
    providers.remember("s", ProviderConfig("a", api_key="secret", model="m"))
    providers.remember("other", ProviderConfig("a"))
    async with providers.lease(session(stored)) as provider:
        assert provider.config.api_key == "secret"
    providers.forget("s")
    async with providers.lease(session(stored)) as provider:
        assert provider.config.api_key is None
    await providers.close()


async def test_a_reattached_key_keeps_what_is_stored(registry: Registry) -> None:
    providers = SessionProviders(registry)
    stored = ProviderConfig("a", model="m", base_url="http://localhost", extra={"x": 1}).public()
    providers.reattach(session(stored), {"name": "a", "api_key": "secret"})
    async with providers.lease(session(stored)) as provider:
        assert provider.config == ProviderConfig(
            "a", api_key="secret", model="m", base_url="http://localhost", extra={"x": 1}
        )
    with pytest.raises(ProviderError, match="'a', not 'b'"):
        providers.reattach(session(stored), ProviderConfig("b"))
    with pytest.raises(ProviderError, match="None, not 'a'"):
        providers.reattach(session(None), {"name": "a"})


async def test_headers_are_passed_again_like_a_key(registry: Registry) -> None:
    providers = SessionProviders(registry)
    headers = {"Helicone-Auth": "secret", "X-Title": "Mine"}
    config = ProviderConfig("a", model="m", extra={"headers": headers, "timeout": 5})
    stored = session(config.public())
    providers.remember("s", config)
    async with providers.lease(stored) as provider:
        assert provider.config == config
    resumed = SessionProviders(registry)
    async with resumed.lease(stored) as provider:
        assert provider.config.extra == {"headers": {"X-Title": "Mine"}, "timeout": 5}
    resumed.reattach(stored, {"name": "a", "extra": {"headers": headers}})
    async with resumed.lease(stored) as provider:
        assert provider.config == config


async def test_a_key_goes_to_no_server_that_one_call_names(registry: Registry) -> None:
    providers = SessionProviders(registry)
    headers = {"authorization": "Bearer secret", "x-kind": "own"}
    config = ProviderConfig("a", "secret", "m", "http://known/v1", {"headers": headers, "token": "secret", "x": 1})
    providers.remember("s", config)
    known, other = session(config.public()), "http://other/v1"
    for passed in ({"base_url": other}, ProviderConfig("a", base_url=other)):
        with pytest.raises(ProviderAuthenticationError, match="'base_url' of its own"):
            providers.rules(known, passed)
    assert registry.made == []
    async with providers.lease(known, {"base_url": other, "api_key": "theirs", "extra": {"y": 2}}) as provider:
        assert provider.config == ProviderConfig("a", "theirs", "m", other, {"x": 1, "y": 2})
    for same in ({"base_url": "http://known/v1/"}, {"model": "m"}):
        async with providers.lease(known, same) as provider:
            assert (provider.config.api_key, provider.config.extra) == ("secret", config.extra)


@pytest.mark.parametrize("base_url", [None, "http://known/v1"])
async def test_the_environments_key_goes_to_no_server_that_one_call_names(
    base_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    providers = SessionProviders(ProviderFactory())
    known = session(ProviderConfig("openai", model="m", base_url=base_url).public())
    with pytest.raises(ProviderAuthenticationError):
        providers.rules(known, {"base_url": "http://other/v1"})


@pytest.mark.parametrize("name", ["ollama", "vllm", "llama", "own"])
async def test_a_provider_that_needs_no_key_may_be_called_on_another_server(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "secret")
    ProviderFactory.register_provider("own", OpenAIProvider)
    providers = SessionProviders(ProviderFactory())
    known = ProviderConfig(name, "secret", "m", "http://known/v1", {"headers": {"x-kind": "own"}})
    providers.remember("s", known)
    try:
        async with providers.lease(session(known.public()), {"base_url": "http://other/v1"}) as provider:
            assert provider.config == ProviderConfig(name, "none", "m", "http://other/v1")
    finally:
        ProviderFactory.unregister_provider("own")


@pytest.mark.parametrize("name", ["anthropic", "deepseek", "stub"])
async def test_another_provider_needs_a_key_for_another_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "secret")
    ProviderFactory.register_provider("stub", StubProvider)
    try:
        with pytest.raises(ProviderAuthenticationError, match="'base_url' of its own"):
            SessionProviders(ProviderFactory()).rules(
                session(ProviderConfig(name, model="m").public()), {"base_url": "http://other/v1"}
            )
    finally:
        ProviderFactory.unregister_provider("stub")


async def test_a_session_without_provider_is_refused(registry: Registry) -> None:
    with pytest.raises(ProviderError, match="has no provider"):
        async with SessionProviders(registry).lease(session(None)):
            pass


async def test_managers_of_one_storage_share_locks() -> None:
    storage = InMemoryStorage()
    locks = locks_of(storage)
    assert locks_of(storage) is locks
    assert locks_of(InMemoryStorage()) is not locks
    lock = locks.of("s")
    assert locks.of("s") is lock
    assert locks.of("t") is not lock
    forgotten = weakref.ref(lock)
    del lock
    gc.collect()
    assert forgotten() is None


def test_each_event_loop_has_its_own_lock() -> None:
    locks = SessionLocks()

    async def get() -> TurnLock:
        return locks.of("s")

    with asyncio.Runner() as one, asyncio.Runner() as two:
        assert one.run(get()) is not two.run(get())


@pytest.mark.parametrize(
    ("temperature", "max_tokens", "expected"),
    [
        (DEFAULT_TEMPERATURE, None, {"temperature": 0.1, "max_tokens": 5, "top_p": 1, "seed": 3}),
        (float("0.7"), None, {"temperature": 0.7, "max_tokens": 5, "top_p": 1, "seed": 3}),
        (1, 9, {"temperature": 1, "max_tokens": 9, "top_p": 1, "seed": 3}),
    ],
)
def test_arguments_override_the_sessions_defaults(
    temperature: float, max_tokens: int | None, expected: dict[str, Any]
) -> None:
    defaults = {"temperature": 0.1, "max_tokens": 5, "top_p": 1, "seed": 2}
    assert generation_parameters(defaults, temperature, max_tokens, {"seed": 3}) == expected


@pytest.mark.parametrize(
    ("temperature", "max_tokens"),
    [
        ("hot", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        (-0.1, None),
        (0.7, 0),
        (0.7, 1.5),
        (0.7, True),
    ],
)
def test_wrong_parameters_are_refused(temperature: Any, max_tokens: Any) -> None:
    with pytest.raises(ValidationError):
        generation_parameters({}, temperature, max_tokens, {})


async def test_other_providers_are_closed_after_a_failure(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    pool = ProviderPool(registry)
    for name in ("a", "b"):
        async with pool.lease(ProviderConfig(name)):
            pass

    async def fail() -> None:
        raise RuntimeError("a secret")

    registry.made[0].close = fail  # type: ignore[method-assign]
    await pool.close()
    assert registry.made[1].closed is True
    assert caplog.messages == ["a provider failed to close: RuntimeError"]


async def test_providers_in_use_are_not_closed(registry: Registry) -> None:
    pool = ProviderPool(registry, size=3)

    async def use(number: int) -> bool:
        async with pool.lease(ProviderConfig(f"p{number}")) as provider:
            for _ in range(number % 7):
                await asyncio.sleep(0)
            assert isinstance(provider, Fake)
            return provider.closed

    assert await asyncio.gather(*(use(number) for number in range(100))) == [False] * 100
    assert sum(not provider.closed for provider in registry.made) == 3

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    MissingDependencyError,
    ProviderAuthenticationError,
    ProviderError,
)
from luminoracore_sdk.providers import (
    AnthropicProvider,
    BaseProvider,
    EchoProvider,
    OpenAIProvider,
    ProviderFactory,
    ProviderRegistry,
)
from luminoracore_sdk.types.provider import ProviderConfig
from tests.support.stub_provider import StubProvider

KEYED = ["anthropic", "deepseek", "gemini", "google", "groq", "mistral", "openai", "openrouter"]
BUILT_IN = sorted([*KEYED, "echo", "llama", "ollama", "pydantic-ai", "vllm"])


class Parrot(StubProvider):
    pass


class Egg(BaseProvider):
    def get_default_model(self) -> str:
        return "egg-1"


class Broken(StubProvider):
    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        raise RuntimeError(f"no luck with {config.api_key}")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*BUILT_IN, "parrot"]:
        monkeypatch.delenv(f"{name.upper()}_API_KEY", raising=False)


@pytest.fixture
def parrot() -> Iterator[str]:
    ProviderFactory.register_provider("Parrot", Parrot)
    yield "parrot"
    ProviderFactory.unregister_provider("parrot")


def test_the_built_in_names_are_there_sorted() -> None:
    assert ProviderFactory.get_available_providers() == BUILT_IN


def test_a_registered_class_is_used_like_a_built_in_one(parrot: str) -> None:
    provider = ProviderFactory.create_provider(ProviderConfig(name=" PARROT"))
    assert type(provider) is Parrot
    assert ProviderFactory.get_available_providers() == sorted([*BUILT_IN, parrot])
    assert ProviderFactory.is_provider_available("paRRot") is True


def test_an_unregistered_class_is_forgotten(parrot: str) -> None:
    assert ProviderFactory.unregister_provider("PARROT") is True
    assert ProviderFactory.is_provider_available(parrot) is False
    assert ProviderFactory.unregister_provider(parrot) is False


def test_a_built_in_name_can_be_taken_and_comes_back() -> None:
    ProviderFactory.register_provider("echo", Parrot)
    assert ProviderFactory.get_provider_class("echo") is Parrot
    assert ProviderFactory.unregister_provider("echo") is True
    assert ProviderFactory.get_provider_class("echo") is EchoProvider
    assert ProviderFactory.unregister_provider("echo") is False


@pytest.mark.parametrize("wrong", [object, Parrot.__name__, None, len])
def test_a_class_that_is_no_provider_is_refused(wrong: Any) -> None:
    with pytest.raises(ProviderError, match="'wrong': its class must be a subclass of BaseProvider"):
        ProviderFactory.register_provider("wrong", wrong)
    assert ProviderFactory.is_provider_available("wrong") is False


def test_a_class_that_leaves_out_a_method_is_refused() -> None:
    with pytest.raises(ProviderError) as caught:
        ProviderFactory.register_provider("egg", Egg)  # type: ignore[type-abstract]
    assert str(caught.value) == "provider 'egg': Egg does not implement chat, stream_chat"
    assert ProviderFactory.is_provider_available("egg") is False


def test_failing_class_is_named_and_chained_without_the_key() -> None:
    ProviderFactory.register_provider("broken", Broken)
    try:
        with pytest.raises(ProviderError) as caught:
            ProviderFactory.create_provider(ProviderConfig(name="broken", api_key="sk-secret"))
    finally:
        ProviderFactory.unregister_provider("broken")
    assert str(caught.value) == "broken: Broken cannot be created: RuntimeError"
    assert type(caught.value.__cause__) is RuntimeError
    assert str(caught.value.__cause__) == "no luck with [redacted]"


@pytest.mark.parametrize("name", ["", "  ", None])
def test_a_provider_needs_a_name(name: Any) -> None:
    with pytest.raises(ProviderError, match="a provider's name must be a non-empty string"):
        ProviderFactory.register_provider(name, Parrot)


def test_an_unknown_name_lists_the_available_ones() -> None:
    with pytest.raises(ProviderError) as caught:
        ProviderFactory.create_provider_from_dict({"name": "nobody"})
    assert str(caught.value) == f"no provider 'nobody'; available: {', '.join(BUILT_IN)}"


def test_an_instance_is_the_registry_that_use_cases_ask_for() -> None:
    registry: ProviderRegistry = ProviderFactory()
    assert type(registry.create_provider(ProviderConfig(name="echo"))) is EchoProvider


@pytest.mark.parametrize("name", KEYED)
def test_a_missing_key_names_its_variable(name: str) -> None:
    with pytest.raises(ProviderAuthenticationError, match=f"set {name.upper()}_API_KEY,"):
        ProviderFactory.create_provider(ProviderConfig(name=name))


@pytest.mark.parametrize("name", KEYED)
def test_a_key_of_the_environment_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "of-the-environment\n")
    provider = ProviderFactory.create_provider_from_env(name, model="m")
    assert provider.config.api_key == "of-the-environment"
    assert provider.config.model == "m"
    assert type(provider) is (AnthropicProvider if name == "anthropic" else OpenAIProvider)


def test_a_key_of_the_configuration_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    provider = ProviderFactory.create_provider_from_dict({"name": "openai", "api_key": "of-the-caller"})
    assert provider.config.api_key == "of-the-caller"


def test_provider_without_the_factory_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    assert OpenAIProvider(ProviderConfig(name="openai")).config.api_key == "of-the-environment"


def test_a_registered_class_gets_the_key_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ProviderFactory.register_provider("my-parrot", Parrot)
    monkeypatch.setenv("MY_PARROT_API_KEY", "cracker")
    try:
        assert ProviderFactory.create_provider_from_env("My-Parrot").config.api_key == "cracker"
    finally:
        ProviderFactory.unregister_provider("my-parrot")


def test_servers_that_need_no_key_work_without_one() -> None:
    for config in (
        ProviderConfig(name="ollama"),
        ProviderConfig(name="vllm", model="m"),
        ProviderConfig(name="llama", base_url="http://localhost:8080/v1"),
    ):
        assert ProviderFactory.create_provider(config).config.api_key is None


def test_llama_at_its_own_address_needs_a_key() -> None:
    with pytest.raises(ProviderAuthenticationError, match="LLAMA_API_KEY"):
        ProviderFactory.create_provider(ProviderConfig(name="llama"))


def test_a_server_without_a_default_model_asks_for_one() -> None:
    with pytest.raises(ProviderError, match="vllm has no default model: give 'model'"):
        ProviderFactory.create_provider(ProviderConfig(name="vllm"))


def test_an_openai_class_under_another_name_asks_for_an_address() -> None:
    ProviderFactory.register_provider("acme", OpenAIProvider)
    try:
        with pytest.raises(ProviderError, match="acme has no default address: give 'base_url'"):
            ProviderFactory.create_provider(ProviderConfig(name="acme", api_key="a-key", model="m"))
    finally:
        ProviderFactory.unregister_provider("acme")


def test_information_tells_how_a_provider_is_reached(parrot: str) -> None:
    assert ProviderFactory.get_provider_info("Groq") == {
        "name": "groq",
        "class": "OpenAIProvider",
        "api_key_variable": "GROQ_API_KEY",
        "package": "openai",
        "base_url": "https://api.groq.com/openai/v1",
        "default_model": "openai/gpt-oss-120b",
        "api_key": "always",
    }
    assert ProviderFactory.get_provider_info("anthropic")["package"] == "anthropic"
    assert ProviderFactory.get_provider_info(parrot) == {
        "name": "parrot",
        "class": "Parrot",
        "api_key_variable": "PARROT_API_KEY",
    }


@pytest.mark.parametrize(
    ("name", "package"), [("openai", "openai"), ("anthropic", "anthropic"), ("pydantic-ai", "pydantic_ai")]
)
def test_a_missing_package_is_named_with_the_command_that_helps(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError) as caught:
        ProviderFactory.create_provider(ProviderConfig(name=name, api_key="a-key", model="mistral:m"))
    assert f'pip install "luminoracore-sdk[{name}]"' in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_broken_package_is_not_called_missing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("import zz_not_there")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProviderError, match="Provider cannot be created: ModuleNotFoundError") as caught:
        ProviderFactory.create_provider(ProviderConfig(name=name, api_key="a-key"))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.__cause__.name == "zz_not_there"


def test_the_documented_import_loads_no_client_package() -> None:
    code = (
        "import sys, luminoracore_sdk.providers, luminoracore_sdk.types.provider\n"
        "print(sorted({'openai', 'anthropic', 'httpx', 'httpx2', 'pydantic', 'pydantic_ai'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

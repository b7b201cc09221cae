from typing import Any

import pytest

from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig, secret_names
from luminoracore_sdk.domain.errors import InvalidJSONError, ProviderError
from luminoracore_sdk.domain.message import MessageRole

SECRET = "sk-very-secret"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, """^provider_config needs a 'name', for example {"name": "echo"}$"""),
        ("echo", "must be a dict, not str"),
        ([], "must be a dict, not list"),
        ({}, "^provider_config needs a 'name'$"),
        ({"name": None, "model": "m"}, "^provider_config needs a 'name'$"),
        ({"model": "m", "nmae": "echo"}, "unknown key 'nmae'"),
        ({"name": ""}, "needs a 'name'"),
        ({"name": "  "}, "needs a 'name'"),
        ({"name": 5}, "needs a 'name', a non-empty string, not int"),
        ({"name": "echo", "modle": "m"}, "unknown key 'modle'; valid keys: name, api_key, model"),
        ({"name": "echo", 5: "m"}, "unknown key '5'"),
        ({"name": "echo", "model": ""}, "'model' must be a non-empty string"),
        ({"name": "echo", "model": 5}, "'model' must be a non-empty string, not int"),
        ({"name": "echo", "api_key": ""}, "'api_key' must be a non-empty string"),
        ({"name": "echo", "base_url": 5}, "'base_url' must be a non-empty string"),
        ({"name": "echo", "base_url": "localhost:80"}, "must begin with http"),
        ({"name": "echo", "base_url": f"https://me:{SECRET}@host/v1"}, "holds credentials"),
        ({"name": "echo", "base_url": f"HTTPS://{SECRET}@host"}, "must begin with http"),
        ({"name": "echo", "extra": [1]}, "'extra' must be a dict, not list"),
    ],
)
def test_an_invalid_provider_config_is_refused(data: Any, reason: str) -> None:
    with pytest.raises(ProviderError, match=reason) as caught:
        ProviderConfig.from_dict(data)
    assert SECRET not in str(caught.value)


def test_extra_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidJSONError, match="extra"):
        ProviderConfig.from_dict({"name": "echo", "extra": {"a": float("nan")}})


def test_a_provider_config_is_parsed_and_copied() -> None:
    extra = {"timeout": 5, "nested": [1]}
    config = ProviderConfig.from_dict(
        {"name": "x", "api_key": SECRET, "model": "m", "base_url": "http://h/v1", "extra": extra}
    )
    extra["nested"] = "changed"
    assert (config.name, config.api_key, config.model) == ("x", SECRET, "m")
    assert (config.base_url, config.extra) == ("http://h/v1", {"timeout": 5, "nested": [1]})
    assert ProviderConfig.from_dict({"name": "x", "extra": None}) == ProviderConfig("x")


def test_a_key_is_never_shown_and_never_public() -> None:
    extra = {
        "Authorization": SECRET,
        "headers": [{"X-API-Key": SECRET, "accept": "json"}],
        "auth_token": SECRET,
        "token_limit": 5,
    }
    config = ProviderConfig("x", api_key=SECRET, extra=extra)
    assert SECRET not in repr(config)
    assert config.public() == {
        "name": "x",
        "model": None,
        "base_url": None,
        "extra": {"headers": [{"accept": "json"}], "token_limit": 5},
    }


def test_secrets_are_the_key_and_the_secret_texts_of_extra() -> None:
    extra = {"password": "p", "list": [{"client_secret": "c", "id": "i"}], "api_key": 5, "token": ""}
    assert ProviderConfig("x", api_key=SECRET, extra=extra).secrets() == (SECRET, "p", "c")
    assert ProviderConfig("x").secrets() == ()


def test_the_dictionary_of_a_prompt_message() -> None:
    message = ChatMessage(MessageRole.USER, [{"text": "hi"}], {"tool_calls": []})
    assert message.to_dict() == {"role": "user", "content": [{"text": "hi"}]}


def test_the_dictionary_of_a_response() -> None:
    response = ChatResponse("hi", finish_reason="stop", usage={"total": 3}, model="m")
    assert response.to_dict() == {
        "content": "hi",
        "role": "assistant",
        "finish_reason": "stop",
        "usage": {"total": 3},
        "model": "m",
        "provider_metadata": {},
    }


@pytest.mark.parametrize("url", ["https://h/v1?api_key=x", "https://h/v1#x"])
def test_a_base_url_with_a_query_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ProviderError, match="must not have a query") as caught:
        ProviderConfig("a", base_url=url)
    assert "api_key=" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["accessToken", "access_key", "privateKey", "Cookie", "bearer", "auth", "refresh_token", "X-API-Key"]
)
def test_names_of_secrets_are_recognised(name: str) -> None:
    config = ProviderConfig("a", extra={"nested": [{name: "hidden"}], "max_tokens": 5})
    assert config.public()["extra"] == {"nested": [{}], "max_tokens": 5}
    assert config.secrets() == ("hidden",)


def test_a_header_is_a_secret_unless_it_is_known_not_to_be() -> None:
    public = {"User-Agent": "mine/1", "HTTP-Referer": "https://me", "X-Title": "Mine", "anthropic-beta": "b"}
    secret = {"Helicone-Auth": "Bearer a", "Ocp-Apim-Subscription-Key": "b", "x-portkey-virtual-key": "c", "X-Own": "d"}
    for headers in ({**public, **secret}, [public, secret]):
        config = ProviderConfig("a", extra={"headers": headers, "X-Own": "no header"})
        assert config.secrets() == ("Bearer a", "b", "c", "d")
        kept = config.public()["extra"]
        assert kept == {"headers": public if isinstance(headers, dict) else [public, {}], "X-Own": "no header"}
    assert secret_names({"extra_headers": {**public, **secret}}) == list(secret)


def test_an_extra_that_contains_itself_is_refused() -> None:
    knot: dict[str, object] = {}
    knot["again"] = knot
    with pytest.raises(InvalidJSONError):
        ProviderConfig.from_dict({"name": "a", "extra": knot})

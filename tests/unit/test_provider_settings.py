from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.providers import BaseProvider, ProviderFactory

SECRET = "sk-never-shown-81b2"


def made(name: str, extra: dict[str, Any]) -> BaseProvider:
    data = {"name": name, "api_key": SECRET, "extra": extra}
    return ProviderFactory.create_provider_from_dict(data)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("echo", "delay"),
        (
            "openai",
            "timeout, max_retries, headers, max_answer_bytes, organization, project, stream_usage, accept_unfinished",
        ),
        ("anthropic", "timeout, max_retries, headers, max_answer_bytes, api_version"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_known_ones(name: str, known: str) -> None:
    with pytest.raises(ProviderError) as caught:
        made(name, {"tiemout": SECRET})
    assert str(caught.value) == (f"provider_config: 'extra' has an unknown key 'tiemout'; {name} knows: {known}")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"timeout": 0}, "extra['timeout'] must be a number of seconds above 0"),
        ({"timeout": -1.5}, "extra['timeout'] must be a number of seconds above 0"),
        ({"timeout": "60"}, "extra['timeout'] must be a number of seconds above 0"),
        ({"timeout": True}, "extra['timeout'] must be a number of seconds above 0"),
        ({"timeout": None}, "extra['timeout'] must be a number of seconds above 0"),
        ({"max_retries": -1}, "extra['max_retries'] must be a whole number, 0..100"),
        ({"max_retries": 101}, "extra['max_retries'] must be a whole number, 0..100"),
        ({"max_retries": 1.0}, "extra['max_retries'] must be a whole number, 0..100"),
        ({"max_retries": True}, "extra['max_retries'] must be a whole number, 0..100"),
        ({"headers": []}, "extra['headers'] must be an object of header names and values"),
        ({"headers": {"a b": "x"}}, "extra['headers'] has a header that HTTP does not allow: 'a b'"),
        ({"headers": {"": "x"}}, "extra['headers'] has a header that HTTP does not allow: ''"),
        ({"headers": {"x-a": 1}}, "extra['headers'] has a header that HTTP does not allow: 'x-a'"),
        (
            {"headers": {"x-a": f"{SECRET}\r\nx: y"}},
            "extra['headers'] has a header that HTTP does not allow: 'x-a'",
        ),
    ],
)
def test_a_wrong_http_setting_is_refused_and_not_shown(name: str, extra: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        made(name, extra)
    assert str(caught.value) == f"provider_config: {reason}"


@pytest.mark.parametrize(
    ("name", "extra", "reason"),
    [
        ("echo", {"delay": -0.1}, "extra['delay'] must be a number of seconds, 0 or above"),
        ("echo", {"delay": False}, "extra['delay'] must be a number of seconds, 0 or above"),
        ("openai", {"organization": ""}, "extra['organization'] must be a string of visible ASCII characters"),
        ("openai", {"project": "a\nb"}, "extra['project'] must be a string of visible ASCII characters"),
        ("openai", {"stream_usage": 1}, "extra['stream_usage'] must be true or false"),
        (
            "anthropic",
            {"api_version": 2023},
            "extra['api_version'] must be a string of visible ASCII characters",
        ),
    ],
)
def test_a_wrong_setting_of_one_class_is_refused(name: str, extra: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        made(name, extra)
    assert str(caught.value) == f"provider_config: {reason}"


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("echo", {"delay": 0}),
        ("openai", {"timeout": 1, "max_retries": 0, "headers": {"X-A": "b c"}, "stream_usage": False}),
        ("openai", {"organization": "o", "project": "p"}),
        ("anthropic", {"timeout": 0.5, "api_version": "2023-06-01"}),
    ],
)
def test_right_settings_are_taken(name: str, extra: dict[str, Any]) -> None:
    assert made(name, extra).config.extra == extra

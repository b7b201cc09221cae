"""What the text of a failed connection says, by what the operating system said."""

import socket
import ssl

import anthropic
import attrs
import httpx2
import openai
import pytest

from luminoracore_sdk.adapters.providers.errors import Peer, translated_errors
from luminoracore_sdk.adapters.providers.redaction import Secrets, scrub_error
from luminoracore_sdk.domain.errors import ProviderConnectionError, ProviderError, ProviderTimeoutError
from luminoracore_sdk.types.provider import ProviderConfig

KEY = "sk-in-a-query-4711"
PEER = Peer(name="acme", base_url=f"https://acme.test/v1?key={KEY}#part")
REQUEST = httpx2.Request("POST", PEER.base_url)


def translated(error: Exception) -> ProviderError:
    with (
        pytest.raises(ProviderError) as caught,
        translated_errors(openai, PEER, Secrets(ProviderConfig("acme"))),
    ):
        raise error
    return caught.value


def unreached(cause: BaseException | None) -> Exception:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (None, ""),
        (OSError("of another kind"), ""),
        (ConnectionRefusedError(), " (connection refused); is it running?"),
        (ConnectionResetError(), " (connection reset)"),
        (socket.gaierror(-2, "Name or service not known"), " (its name has no address)"),
        (ssl.SSLCertVerificationError(), " (its certificate is not trusted)"),
        (ssl.SSLError(), " (TLS failed)"),
        (httpx2.ConnectError(ssl.SSLError()), " (TLS failed)"),  # type: ignore[arg-type]  # as httpcore2
        (
            ExceptionGroup("", [OSError(), ConnectionRefusedError()]),
            " (connection refused); is it running?",
        ),
    ],
)
def test_a_failed_connection_says_where_and_why(cause: BaseException | None, reason: str) -> None:
    error = translated(unreached(cause))
    assert type(error) is ProviderConnectionError
    assert str(error) == f"acme could not be reached at https://acme.test/v1{reason}"


def test_an_error_that_the_caller_was_handling_is_no_reason() -> None:
    try:
        raise ConnectionRefusedError  # noqa: TRY301 - it is another provider's
    except ConnectionRefusedError:
        error = translated(unreached(None))
    assert str(error) == "acme could not be reached at https://acme.test/v1"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (
            {"connect": 5.0, "read": 60.0},
            "acme could not be reached at https://acme.test/v1 within 5 seconds",
        ),
        ({"connect": None}, "acme could not be reached at https://acme.test/v1 in time"),
        ({}, "acme could not be reached at https://acme.test/v1 in time"),
    ],
)
def test_a_connection_that_takes_too_long_names_its_own_limit(limits: dict[str, float | None], text: str) -> None:
    request = httpx2.Request("POST", PEER.base_url, extensions={"timeout": limits})
    error = translated(httpx2.ConnectTimeout("", request=request))
    assert type(error) is ProviderTimeoutError
    assert str(error) == text


def test_a_timeout_without_a_request_is_told_without_seconds() -> None:
    assert str(translated(httpx2.ReadTimeout(""))) == "acme at https://acme.test/v1 did not answer in time"


def test_the_clients_name_their_errors_alike() -> None:
    for name in ("APIError", "APIConnectionError", "APITimeoutError", "APIStatusError"):
        assert {getattr(driver, name).__name__ for driver in (openai, anthropic)} == {name}


def test_a_key_in_the_members_of_a_group_is_taken_out() -> None:
    inner = ValueError(f"wrong: {KEY}")
    scrub_error(ExceptionGroup("two", [inner]), Secrets(ProviderConfig("acme", api_key=KEY)))
    assert str(inner) == "wrong: [redacted]"


def test_key_is_removed_from_a_frozen_error() -> None:
    @attrs.frozen(slots=False)
    class FrozenError(Exception):
        said: str

    error = FrozenError(f"wrong: {KEY}")
    scrub_error(error, Secrets(ProviderConfig("acme", api_key=KEY)))
    assert error.said == "wrong: [redacted]"

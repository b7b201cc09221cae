"""What a computer's proxies and certificates do to a provider: the error says what to mend."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from luminoracore_sdk.domain.errors import ProviderConnectionError, ProviderError
from luminoracore_sdk.types.provider import ChatMessage
from tests.support.model_server import WIRES, ModelServer, provider_on, say

pytestmark = pytest.mark.parametrize("wire", WIRES)

PROMPT = [ChatMessage("user", "Hello")]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@asynccontextmanager
async def proxy(status: bytes) -> AsyncIterator[str]:
    """Run a proxy that answers every request with a status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def failure(wire: str) -> ProviderError:
    async with ModelServer(say()) as server, provider_on(server, wire, max_retries=0) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.chat(PROMPT)
        assert server.requests == []
    return caught.value


async def test_a_socks_proxy_without_its_package_names_the_package(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    error = await failure(wire)
    assert 'a SOCKS proxy is configured and needs the package "socksio": pip install "httpx[socks]"' in str(error)


async def test_a_certificate_file_that_is_gone_names_the_variable(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/certificates.pem")
    assert "a certificate file is configured that does not exist; see SSL_CERT_FILE" in str(await failure(wire))


async def test_a_proxy_that_refuses_is_named(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(b"403 Forbidden") as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        server = ModelServer()
        server.url = "https://api.example"
        async with provider_on(server, wire, max_retries=0) as provider:
            with pytest.raises(ProviderConnectionError, match="the proxy refused the connection; see HTTPS_PROXY"):
                await provider.chat(PROMPT)


async def test_a_proxy_that_is_not_there_is_a_failed_connection(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    error = await failure(wire)
    assert isinstance(error, ProviderConnectionError)
    assert "connection refused" in str(error)

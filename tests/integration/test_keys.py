"""An API key works and appears in no file, log or error."""

import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.session import SessionManager, SessionStorage
from luminoracore_sdk.types.provider import ProviderConfig
from luminoracore_sdk.types.session import SessionConfig
from luminoracore_sdk.utils.exceptions import ProviderAuthenticationError, ProviderError
from tests.support.backends import FILES, SQLITE
from tests.support.model_server import ModelServer, fail, say
from tests.support.scripted_provider import Script

KEY = "sk-first-41c7a90be2d5"
HEADER = "tok-second-7f6e5d4c3b2a"
SECRETS = (KEY, HEADER)

pytestmark = pytest.mark.parametrize("backend", [FILES, SQLITE], ids=lambda backend: backend.name, indirect=True)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "SCRIPTED_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def configured(server: ModelServer, **changes: Any) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {HEADER}", "x-title": "kept"}
    extra = {"headers": headers, "max_retries": 0, "timeout": 5}
    return {
        "name": "openai",
        "api_key": KEY,
        "model": "m",
        "base_url": f"{server.url}/v1",
        "extra": extra,
    } | changes


def secrets_in(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [secret for secret in SECRETS if secret.encode() in data]


def files_with_secrets(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secrets_in(path.read_bytes())]


async def test_an_api_key_reaches_only_the_provider(
    manager: SessionManager, server: ModelServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        session_id = await manager.create_session({"name": "Ada"}, configured(server))
        await manager.send_message(session_id, "Hello")
        _ = [delta async for delta in manager.stream_message(session_id, "Again")]
        session = await manager.load_session(session_id)
    assert session is not None
    seen = [request.headers["authorization"] for request in server.requests]
    assert [secrets_in(header) for header in seen] == [[HEADER]] * 2  # the caller's own header wins
    assert session.provider == {
        "name": "openai",
        "model": "m",
        "base_url": f"{server.url}/v1",
        "extra": {"headers": {"x-title": "kept"}, "max_retries": 0, "timeout": 5},
    }
    shown = [session, session.to_dict(), await manager.get_session_info(session_id)]
    assert secrets_in(repr(shown)) == []
    assert files_with_secrets(tmp_path) == []
    assert secrets_in(caplog.text) == []


async def test_an_api_key_in_a_session_config_is_not_stored(
    manager: SessionManager, script: Script, tmp_path: Path
) -> None:
    provider = {"name": "scripted", "api_key": KEY, "extra": {"deep": [{"password": HEADER}]}}
    session_id = await manager.create_session({"name": "Ada"}, session_config=SessionConfig(provider_config=provider))
    await manager.send_message(session_id, "Hello")
    assert script.calls[0].config.secrets() == (KEY, HEADER)
    assert files_with_secrets(tmp_path) == []
    session = await manager.load_session(session_id)
    assert session is not None
    assert (session.provider or {})["extra"] == {"deep": [{}]}


async def test_without_auto_save_no_api_key_is_stored(manager: SessionManager, script: Script, tmp_path: Path) -> None:
    provider = {"name": "scripted", "api_key": KEY, "extra": {"token": HEADER}}
    session_id = await manager.create_session({"name": "Ada"}, provider, {"auto_save": False})
    await manager.send_message(session_id, "Hello")
    await manager.save_session(session_id)
    assert files_with_secrets(tmp_path) == []


@pytest.mark.parametrize("status", [401, 403, 400, 500])
@pytest.mark.parametrize("streaming", [False, True])
async def test_an_api_key_in_an_answer_reaches_no_error_or_log(
    manager: SessionManager,
    server: ModelServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
    *,
    streaming: bool,
) -> None:
    body = {"error": {"message": f"wrong key {KEY}, {HEADER}", "type": "auth"}}
    server.script = [fail(status, body, x_echo=KEY)]
    session_id = await manager.create_session({"name": "Ada"}, configured(server))
    ask = manager.stream_message(session_id, "Hello")
    call = anext(ask) if streaming else manager.send_message(session_id, "Hello")
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderError) as caught:
        await call
    texts = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert secrets_in(texts) == []
    assert secrets_in(pickle.dumps(caught.value)) == []
    assert secrets_in(caplog.text) == []
    assert files_with_secrets(tmp_path) == []
    assert isinstance(caught.value, ProviderAuthenticationError) is (status in {401, 403})


async def test_a_refused_config_does_not_show_its_api_key(manager: SessionManager, server: ModelServer) -> None:
    wrong: list[dict[str, Any]] = [
        {"name": "no-such", "api_key": KEY},
        configured(server, no_such=HEADER),
        configured(server, base_url=f"https://user:{KEY}@host"),
        configured(server, extra={"headers": {"authorization": f"{HEADER}\n"}}),
        configured(server, extra={"no_such": HEADER}),
        configured(server, api_key=f"{KEY}\n"),
        configured(server, model=5),
    ]
    for config in wrong:
        with pytest.raises(ProviderError) as caught:
            await manager.create_session({"name": "Ada"}, config)
        assert secrets_in("".join(traceback.format_exception(caught.value, chain=True))) == []
    assert secrets_in(repr(ProviderConfig.from_dict(configured(server)))) == []


async def test_a_resumed_session_gets_its_api_key_again(
    manager: SessionManager,
    open_storage: Callable[[], SessionStorage],
    server: ModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.script = [say()]
    plain = configured(server, extra={"max_retries": 0})
    session_id = await manager.create_session({"name": "Ada"}, plain)

    async with open_storage() as storage, SessionManager(storage) as resumed:
        with pytest.raises(ProviderAuthenticationError, match="OPENAI_API_KEY"):
            await resumed.send_message(session_id, "No key")
        await resumed.load_session(session_id, provider_config={"name": "openai", "api_key": KEY})
        await resumed.send_message(session_id, "From the caller")

    monkeypatch.setenv("OPENAI_API_KEY", HEADER)
    async with open_storage() as storage, SessionManager(storage) as resumed:
        await resumed.send_message(session_id, "From the environment")

    assert [request.headers["authorization"] for request in server.requests] == [
        f"Bearer {KEY}",
        f"Bearer {HEADER}",
    ]
    assert files_with_secrets(tmp_path) == []


async def test_an_api_key_for_another_provider_is_refused(manager: SessionManager, script: Script) -> None:
    session_id = await manager.create_session({"name": "Ada"}, {"name": "scripted"})
    with pytest.raises(ProviderError, match="the session's provider is 'scripted', not 'openai'"):
        await manager.load_session(session_id, provider_config={"name": "openai", "api_key": KEY})


async def test_deleting_a_session_forgets_its_api_key(manager: SessionManager, script: Script) -> None:
    with_key = {"name": "scripted", "api_key": KEY}
    await manager.create_session({"name": "Ada"}, with_key, {"session_id": "s"})
    await manager.delete_session("s")
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
    await manager.send_message("s", "Hello")
    assert script.calls[-1].config.api_key is None

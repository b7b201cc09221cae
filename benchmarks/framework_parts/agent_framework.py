"""History providers of Microsoft's Agent Framework: a tail is the whole history."""

# pyright: reportMissingImports=false, reportCallIssue=false

from functools import partial
from typing import Any

import attrs
from agent_framework import FileHistoryProvider, Message

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.agent_framework import LuminoraHistoryProvider

__all__ = ["PAIRS"]


@attrs.frozen
class _Provider:
    provider: Any

    async def turn(self, session: str) -> None:
        messages = [Message(role=role, contents=[text()]) for role in ("user", "assistant")]
        await self.provider.save_messages(session, messages)

    async def tail(self, session: str) -> int:
        return len(await self.provider.get_messages(session))

    async def close(self) -> None:
        if hasattr(self.provider, "close"):
            await self.provider.close()


async def _ours(backend: str, place: Place) -> _Provider:
    return _Provider(LuminoraHistoryProvider(await ours_at(place, backend)))


async def _files(place: Place) -> _Provider:
    return _Provider(FileHistoryProvider(place.folder / "own"))


PAIRS = (
    Pair("files", "FileHistoryProvider", _files, partial(_ours, "files"), int),
    Pair("files", "FileHistoryProvider, ours on SQLite", _files, partial(_ours, "SQLite"), int),
)

"""A corpus in many languages, changes of it, and what recall finds in it."""

import json
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper
from luminoracore_sdk.application.indexing import Indexer
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.records import (
    IndexRecord,
    IndexRewrite,
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.recall.ranking import Cosines, cosines
from luminoracore_sdk.session import Message, SessionManager, SessionStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock

__all__ = [
    "CHANGES",
    "QUESTIONS",
    "TEXTS",
    "Meanwhile",
    "found_by",
    "manager_of",
    "queries",
    "reindexed",
    "say",
    "searched",
    "stored_entries",
    "without_indexes",
]

TEXTS = {
    "English": "My sister Carol moved to Lisbon last May and sells hand-made ceramics",
    "German": "Die Straßenbahn nach Köln fährt am Dienstag später, weil die Brücke gesperrt ist",
    "French": "L'hôtel où nous étions à Besançon n'avait ni chauffage ni café",
    "Spanish": "El próximo jueves iré a Málaga con mi sobrina Íñiga",
    "Russian": "Моя бабушка печёт ватрушки по воскресеньям в деревне под Псковом",
    "Greek": "Ο Οδυσσέας φύτεψε τρεις ελιές πίσω από το σπίτι",
    "Chinese": "我昨天在北京的图书馆借了三本关于陶瓷的书",
    "Japanese": "来週の火曜日に京都で友達と抹茶を飲みます",
    "Korean": "부산에서 먹은 국밥이 정말 맛있었어요",
    "Thai": "พรุ่งนี้ฉันจะไปเชียงใหม่กับเพื่อน",
    "Arabic": "سافرت إلى مرّاكش في الربيع مع أخي",
    "Hebrew": "החתול שלי ישן על המקלדת כל בוקר",
    "Hindi": "मेरी दादी हर रविवार को खीर बनाती हैं",
    "Turkish": "İstanbul'da ılık bir akşamüstü çay içtik",
    "emoji": "the party 🎉🎉 was great 👍🏽, then we flew 🛫 to 🇯🇵",
    "code": "def parse_config(path: Path) -> dict[str, int]: return json.loads(path.read_text())",
    "identifiers": "call_abc-123 failed with HTTP 503 in us-east-1, see PROJ-4711 and v2.10.3",
    "addresses": "Write to carol.smith+pots@example.org or open https://shop.example.org/vases?id=42",
    "numbers": "The invoice of 2026-05-08 is 1,250.75 EUR, account 1234567",
    "symbols": "NEAR(\"a b\" AND c*) OR -d \0 \ud800 'quoted'",
    "blank": " \n\t",
}
"""Texts by what is special about them."""

T = TypeVar("T")

SPECIAL = ("", " \n", "?!", "AND", '"', "*", "\0", "\ud800", "🎉", "👍", "ß", "der the и", "x" * 10_000)

_USERS = {"s-ada-1": "ada", "s-ada-2": "ada", "s-bob": "bob", "s-none": None}
_START = datetime.fromisoformat("2026-05-08T09:00:00+00:00")


class Numbers:
    """Ids that are the same in every run."""

    def __init__(self) -> None:
        self._last = 0

    def new_id(self) -> str:
        """Return the next id."""
        self._last += 1
        return f"id-{self._last}"


def searched(
    storage: SessionStorage,
    embedder: Embedder | None = None,
    *,
    compare: Cosines = cosines,
    query_seconds: float = 10.0,
) -> SessionStorage:
    """Return a storage with search switched on, as ``create_storage`` does."""
    analyzer = make_analyzer("english")
    search = Search(analyzer=analyzer, embedder=embedder, compare=compare, query_seconds=query_seconds)
    return SearchWrapper(storage, search, codec=JsonEntityCodec())


def manager_of(storage: SessionStorage, clock: ManualClock, *, ids: Numbers | None = None) -> SessionManager:
    """Return a manager with the clock of the storage, and ids that are numbers."""
    services: Services = attrs.evolve(default_services(), clock=clock, ids=ids or Numbers())
    return SessionManager(storage, services=services)


async def say(manager: SessionManager, *texts: str, session_id: str = "s") -> None:
    """Add messages of the user to a session, which is created where there is none."""
    chat = manager.conversation_manager
    await chat.create_conversation(session_id)
    for first in range(0, len(texts), 1000):
        await chat.append(session_id, [Message("user", text) for text in texts[first : first + 1000]])


class Meanwhile(StorageWrapper):
    """Let something happen once, right before or after a call.

    Attributes:
        happens: What happens, by ``before`` or ``after`` and the name of the call.
    """

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.happens: dict[str, Callable[[], Awaitable[object]]] = {}

    async def _around(self, name: str, call: Awaitable[T]) -> T:
        await self._let_happen(f"before {name}")
        found = await call
        await self._let_happen(f"after {name}")
        return found

    async def _let_happen(self, moment: str) -> None:
        if moment in self.happens:
            await self.happens.pop(moment)()

    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Read, with what happens."""
        return await self._around("read_index", super().read_index(session_id, span))

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, with what happens."""
        return await self._around("read_messages", super().read_messages(session_id, span))

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, with what happens."""
        return await self._around("find_session", super().find_session(session_id))


# -- changes ----------------------------------------------------------------------------------------


async def _fill(manager: SessionManager, clock: ManualClock) -> None:
    clock.set(_START)
    texts = list(TEXTS.items())
    for place, (session_id, user_id) in enumerate(_USERS.items()):
        config = {"session_id": session_id, "user_id": user_id}
        await manager.create_session({"name": "A"}, {"name": "echo"}, config)
        for number, (name, text) in enumerate(texts[place:] + texts[:place]):
            clock.advance(3600)
            role = "assistant" if number % 3 == 1 else "user"
            message = Message(role, text, id=f"{session_id} {name}")
            await manager.conversation_manager.append(session_id, [message])
        await manager.memory_manager.store_memory(session_id, "favourite_drink", {"name": "抹茶", "cups": place})


async def _remember(manager: SessionManager, clock: ManualClock) -> None:
    memory = manager.memory_manager
    clock.advance(60)
    await memory.store_memory("s-ada-1", "home_town", "Lisbon", scope="user", importance=0.9)
    await memory.store_memory("s-ada-1", "sister", "Carol sells ceramics", scope="user")
    await memory.store_memory("s-ada-2", "short_lived", "Köln on Tuesday", ttl=3600, scope="user")
    await memory.store_memory("s-bob", "home_town", "Псков", scope="user")


async def _remember_otherwise(manager: SessionManager, clock: ManualClock) -> None:
    memory = manager.memory_manager
    await memory.store_memory("s-ada-1", "home_town", "北京", scope="user")  # within the same microsecond
    await memory.delete_memory("s-ada-1", "sister", scope="user")
    await memory.store_memory("s-ada-2", "favourite_drink", "ceramics and coffee")
    clock.advance(7200)


async def _talk(manager: SessionManager, clock: ManualClock) -> None:
    for session_id in _USERS:
        clock.advance(1)
        question = Message("user", f"Where does Carol of {session_id} live now?", id=f"{session_id} asked")
        await manager.send_message(session_id, question)


async def _edit(manager: SessionManager, clock: ManualClock) -> None:
    clock.advance(1)
    await manager.edit_message("s-ada-1", "s-ada-1 asked", "Does the tram to Cologne run on Tuesday?")
    clock.advance(1)
    await manager.regenerate("s-bob")


async def _cut(manager: SessionManager, clock: ManualClock) -> None:
    await manager.rewind("s-ada-2", 12)
    clock.advance(1)
    await manager.conversation_manager.add_message("s-ada-2", "user", "ceramics again, and 抹茶")


async def _remove(manager: SessionManager, _: ManualClock) -> None:
    await manager.redact("s-ada-1", "s-ada-1 Chinese")
    await manager.delete_messages("s-bob", ["s-bob Thai", "s-bob code"])


async def _fork(manager: SessionManager, clock: ManualClock) -> None:
    clock.advance(1)
    await manager.fork("s-ada-1", 9, new_session_id="s-fork")
    clock.advance(1)
    await manager.conversation_manager.add_message("s-fork", "user", "in the fork the tram runs")
    await manager.fork("s-bob", new_session_id="s-bob-fork")


async def _replace(manager: SessionManager, clock: ManualClock) -> None:
    clock.advance(1)
    await manager.delete_session("s-none")
    await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s-none"})
    for text in ("Carol sells her ceramics in Köln now", "抹茶 in Málaga, call_abc-123"):
        clock.advance(1)
        await manager.conversation_manager.add_message("s-none", "user", text)


async def _delete(manager: SessionManager, clock: ManualClock) -> None:
    clock.advance(1)
    await manager.delete_session("s-bob")
    await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s-bob", "user_id": "ada"})
    await manager.conversation_manager.add_message("s-bob", "user", "Carol has a new session, once of Bob")


async def _erase(manager: SessionManager, _: ManualClock) -> None:
    await manager.erase_user("bob")


async def _expire(manager: SessionManager, clock: ManualClock) -> None:
    await manager.update_session("s-ada-2", ttl=60)
    clock.advance(61)


Change = Callable[[SessionManager, ManualClock], Awaitable[None]]

CHANGES: tuple[Change, ...] = (
    *(_fill, _remember, _remember_otherwise, _talk, _edit, _cut),
    *(_remove, _fork, _replace, _delete, _erase, _expire),
)
"""One after the other, each on what those before have left."""


# -- queries ----------------------------------------------------------------------------------------


def queries(count: int = 200) -> list[tuple[str, dict[str, Any]]]:
    """Return texts, and the other arguments of ``recall``; always the same ones."""
    chance = random.Random(2026)  # noqa: S311
    words = [word for text in TEXTS.values() for word in text.split()]
    words += [text[at : at + 3] for text in (TEXTS["Chinese"], TEXTS["Japanese"], TEXTS["Thai"]) for at in (0, 4, 9)]
    scopes: list[dict[str, Any]] = [
        *({"user_id": "ada"}, {"user_id": "bob"}, {"user_id": "nobody"}, {}),
        *({"session_ids": ["s-none"]}, {"session_ids": ["s-ada-1", "s-bob", "s-fork", "absent"]}),
        *({"user_id": "ada", "session_ids": ["s-ada-2", "s-bob"]}, {"user_id": "ada"}),
    ]
    options: list[dict[str, Any]] = [
        *({}, {}, {"limit": 3}, {"limit": 100}, {"around": 2}, {"max_tokens": 40}, {"kinds": ["memory"]}),
        *({"kinds": ["message"]}, {"roles": ["assistant"]}, {"between": (_START + timedelta(hours=9), None)}),
        {"between": (None, _START + timedelta(hours=30)), "roles": ["user"]},
    ]
    texts = [*SPECIAL, *TEXTS.values()]
    while len(texts) < count:
        texts.append(" ".join(chance.choices(words, k=chance.randint(1, 5))))
    return [
        (text, {"explain": True, **scopes[place % len(scopes)], **options[place % len(options)]})
        for place, text in enumerate(texts[:count])
    ]


QUESTIONS = queries()


async def found_by(manager: SessionManager, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return what recall finds, as JSON with every digit of the scores."""
    return [json.dumps([hit.to_dict() for hit in await manager.recall(text, **arguments)]) for text, arguments in asked]


# -- what is stored ---------------------------------------------------------------------------------


async def stored_entries(storage: SessionStorage) -> dict[tuple[str, int], bytes | None]:
    """Return the stored index of each message, by session and position."""
    found: dict[tuple[str, int], bytes | None] = {}
    async for header in headers(storage, SessionQuery(texts=False)):
        for record in await storage.read_index(header.session_id, MessageRange()):
            found[header.session_id, record.position] = None if record.index is None else record.index.data
    return found


async def without_indexes(storage: SessionStorage) -> int:
    """Remove the stored index of every message; return their number."""
    removed = 0
    async for header in headers(storage, SessionQuery(texts=False)):
        records = await storage.read_index(header.session_id, MessageRange())
        changes = [
            IndexRewrite(position=one.position, message_id=one.message_id, old=one.index, new=None)
            for one in records
            if one.index is not None
        ]
        removed += await storage.rewrite_index(header.session_id, changes) if changes else 0
    return removed


async def reindexed(storage: SessionStorage) -> int:
    """Complete the indexes of all messages, as ``luminora reindex`` does; return the number of those completed."""
    search = storage.search
    assert search is not None
    indexer = Indexer(storage=storage, codec=JsonEntityCodec(), search=search)
    return sum(
        [await indexer.complete(one.session_id, damage=[]) async for one in headers(storage, SessionQuery(texts=False))]
    )

"""Collections, indexes and the version of the layout.

- ``sessions``: one header for each session, under its id. ``inc`` names the incarnation of the session: a put
  that finds no live session begins a new one. ``epoch`` counts the truncations of the incarnation; new batches
  are inserted in that epoch. ``sealed`` lists the epochs before it of which something is left, in order, each
    each with the last position ``upto`` that counts. ``base`` is the summary with which the epoch began, and ``briefs``
  those of its texts that no batch holds, see ``summaries``. ``card`` is the put's. ``changes`` are the latest changes
  of what was stored before, ``noted`` the number of the newest; ``counted`` the newest batches that the latest cuts
  have removed, so that an append that they hid is not counted twice. ``lease`` is the latest lease, ``writing`` the
  marks of appends with a fence that are not verified yet, see ``leases``. ``settled`` and ``updating`` are explained in
  ``sessions``. ``active`` is the minute of the latest change, by
  which sessions are listed: an append changes the header only when a new minute has begun, so that no index has to
  follow each append; the time itself is that of the header or the newest batch.
- ``messages``: one document for each appended batch: incarnation ``inc``, ``epoch``, positions ``first`` to
  ``last``, the ids of its messages and, in ``items``, the rest of them. If it is a single message, ``ids`` is
  its id, and the fields of its item lie in the document itself; else ``before`` has the numbers of messages by role
  before it. ``state`` is the summary once it is appended, ``briefs`` are texts of it, see ``summaries``. ``index`` is
  the index of the message (encoding, NUL, bytes), or the list of those of all messages, null where one has none.
  ``marks`` are those of the updates in progress that have changed the batch, see ``updates``. A batch is found
  through a header only, see ``appends``. Two unique indexes arbitrate between writers: (``inc``, ``epoch``, ``first``)
  gives a position to one batch, (``inc``, ``ids``) gives an id to one batch.
- ``memories``: one document for each memory; ``owner`` is the id of a user (a string) or the ``inc`` of a
  session (an ObjectId). ``lock``, and the document of a scope whose key is empty, are explained in ``memories``.
- ``meta``: the version. It is written once the indexes exist, and before any other document. Also one document for
  each fork in progress, see ``forks``.

``form``, in the first three, counts how often the payloads of a document were rewritten, in a header also those of its
briefs, in a memory also how often it was put; see ``rewriting``.
"""

from contextlib import suppress

import attrs
from pymongo import ASCENDING
from pymongo.operations import IndexModel

from luminoracore_sdk.adapters.storage.mongodb.driver import Collection, Connection, Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.domain.errors import SchemaVersionError

__all__ = [
    "BY_CREATION",
    "IN_ORDER",
    "NEWEST_FIRST",
    "VERSION",
    "Collections",
    "collections",
    "prepare",
    "stored_version",
]

VERSION = 1

IN_ORDER = (("inc", 1), ("epoch", 1), ("first", 1))
"""The order of batches: epochs are numbered, so positions that count rise with it. Also a hint at the index."""

NEWEST_FIRST = tuple((field, -1) for field, _ in IN_ORDER)
BY_CREATION = (("created", 1), ("key", 1))

_THIS: Document = {"_id": "luminoracore_sdk"}


@attrs.frozen
class Collections:
    """The four collections of one store."""

    sessions: Collection
    messages: Collection
    memories: Collection
    meta: Collection


def collections(connection: Connection, database: str, prefix: str) -> Collections:
    """Return the collections of a store."""
    names = [field.name for field in attrs.fields(Collections)]
    return Collections(*(connection.collection(database, prefix + name) for name in names))


async def stored_version(store: Collections) -> int | None:
    """Return the version of the store's layout; None: there is no store yet."""
    found = await store.meta.find_one(_THIS)
    if found is None:
        return None
    version = found.get("version")
    if type(version) is not int:
        raise _other_version(f"in its meta document the version {ascii(version)[:40]}")
    return version


async def prepare(store: Collections) -> None:
    """Create the indexes of a new store, or check the version; any number of processes may do so at once.

    Raises:
        SchemaVersionError: The store has another version, or a collection of that name belongs to something
            else; nothing was changed.
    """
    version = await stored_version(store)
    if version is None and (foreign := await _occupied(store)):
        version = await stored_version(store)  # another process may have created the store meanwhile
        if version is None:
            raise _other_version(f"no version, but documents in the collection {foreign}")
    if version is None:
        await store.sessions.create_indexes(
            _index("created", "_id"),
            _index("user", "created", "_id"),
            _index("active"),
            _index("user", "active"),
            _index("tags", "created", "_id"),
            _index("expires", sparse=True),
        )
        await store.messages.create_indexes(
            _index("inc", "epoch", "first", unique=True), _index("inc", "ids", unique=True)
        )
        await store.memories.create_indexes(_index("owner", "key", unique=True), _index("expires", sparse=True))
        with suppress(DuplicateKey):  # another process was faster, perhaps a newer version
            await store.meta.update(_THIS, {"$setOnInsert": {"version": VERSION}}, upsert=True)
        version = await stored_version(store)
    if version != VERSION:
        raise _other_version(version)


async def _occupied(store: Collections) -> str | None:
    """Return the name of a collection that holds a document, or None."""
    for collection in (store.sessions, store.messages, store.memories, store.meta):
        if await collection.find_one({}, {"_id": 1}):
            return collection.name
    return None


def _other_version(found: object) -> SchemaVersionError:
    hint = "use the version of luminoracore-sdk that created it, or another database or collection_prefix"
    return SchemaVersionError(backend=BACKEND, found=found, supported=VERSION, hint=hint)


def _index(*fields: str, unique: bool = False, sparse: bool = False) -> IndexModel:
    options = {"unique": True} if unique else {"sparse": True} if sparse else {}
    return IndexModel([(field, ASCENDING) for field in fields], **options)

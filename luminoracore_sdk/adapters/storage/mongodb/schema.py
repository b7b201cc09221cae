"""Collections, indexes and the version of the layout.

- ``sessions``: one header a session, under its id. ``inc`` names this incarnation of the session (a new one
  begins with each put that finds none), ``open`` the history that takes appends, ``sealed`` the older ones
  with the position up to which they count, in order. All three are found in no other header, ever.
- ``messages``: one document an appended batch: history ``h``, positions ``first`` to ``last``, the ids of
  its messages and, in ``items``, the rest of them; of a single message ``ids`` is its id, and what would be
  its item lies in the document itself. A batch is seen only through a header: up to ``upto`` of a sealed
  history, all of the open one. Two unique indexes decide who appends: (``inc``, ``h``, ``first``) gives a
  position away once, (``inc``, ``ids``) takes an id once. Both begin with ``inc``, and every command names
  it, so that the collection can be sharded by it. ``w`` is who appended the batch: one storage, from its
  opening to its end. A document with ``closed``, behind the last batch, has no messages: it closes the
  history, and says when the session had been changed last; see ``mongodb_closing``.
- ``memories``: one document a memory; ``owner`` is a user's id (text) or a session's ``inc`` (ObjectId).
- ``meta``: the version.

``form``, in the first three, counts how often payloads in the document have been rewritten, and in a memory how
often it was put too; see ``mongodb_rewriting``.
"""

from contextlib import suppress

import attrs
from pymongo import ASCENDING
from pymongo.operations import IndexModel

from luminoracore_sdk.adapters.storage.mongodb.driver import Collection, Connection, Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.domain.errors import SchemaVersionError

__all__ = ["IN_ORDER", "NEWEST_FIRST", "VERSION", "Collections", "collections", "prepare", "stored_version"]

VERSION = 2
"""In version 1 no history was closed before its header changed: nobody may write so any more."""

IN_ORDER = (("inc", 1), ("h", 1), ("first", 1))
"""Of batches: also says which of the two indexes to take."""

NEWEST_FIRST = tuple((field, -1) for field, _ in IN_ORDER)

_THIS: Document = {"_id": "schema"}


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
    """Make the indexes of a store that is not there yet; any number of processes may do so at once.

    The version is written last: where it stands, the indexes are there.

    Raises:
        SchemaVersionError: The store is of another version; nothing was changed.
    """
    version = await stored_version(store)
    if version is None and await store.sessions.find_one({}, {"_id": 1}):
        version = await stored_version(store)  # another process may have made the store meanwhile
        if version is None:
            raise _other_version("sessions and no version")
    if version is None:
        await store.sessions.create_indexes(
            _index("created", "_id"),
            _index("user", "created", "_id"),
            _index("tags", "created", "_id"),
            _index("expires", sparse=True),
        )
        await store.messages.create_indexes(_index("inc", "h", "first", unique=True), _index("inc", "ids", unique=True))
        await store.memories.create_indexes(_index("owner", "key", unique=True), _index("expires", sparse=True))
        with suppress(DuplicateKey):  # another process was faster, perhaps a newer one
            await store.meta.update(_THIS, {"$setOnInsert": {"version": VERSION}}, upsert=True)
        version = await stored_version(store)
    if version == 1:
        await store.meta.update({**_THIS, "version": 1}, {"$set": {"version": VERSION}})
        version = await stored_version(store)
    if version != VERSION:
        raise _other_version(version)


def _other_version(found: object) -> SchemaVersionError:
    hint = "use the version of luminoracore-sdk that made it, or another database or collection_prefix"
    return SchemaVersionError(backend=BACKEND, found=found, supported=VERSION, hint=hint)


def _index(*fields: str, unique: bool = False, sparse: bool = False) -> IndexModel:
    options = {"unique": True} if unique else {"sparse": True} if sparse else {}
    return IndexModel([(field, ASCENDING) for field in fields], **options)

"""The use cases of sessions: create, resume, send messages, change, list, delete."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from copy import copy
from datetime import date, datetime
from functools import partial
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from luminoracore_sdk.application.conversations import Conversations
from luminoracore_sdk.application.erasure import Erasure, ErasureReceipt
from luminoracore_sdk.application.forks import Fork
from luminoracore_sdk.application.leases import DEFAULT_LEASE_SECONDS, TurnLease, stop_holder, turn_lease
from luminoracore_sdk.application.listings import Listings, Order, check_days
from luminoracore_sdk.application.memories import Memories
from luminoracore_sdk.application.message_costs import MessageCosts
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change
from luminoracore_sdk.application.prompts import MemoryRenderer
from luminoracore_sdk.application.provider_pool import SessionProviders
from luminoracore_sdk.application.retention import Retention, RetentionReport
from luminoracore_sdk.application.revisions import Revisions, checked_ids
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import SessionAccess, headers
from luminoracore_sdk.application.tombstones import is_erased
from luminoracore_sdk.application.turns import (
    DEFAULT_READER_TIMEOUT,
    DEFAULT_TEMPERATURE,
    Busy,
    Dialogue,
    OnFailure,
    OnStop,
    Revises,
    SendOptions,
)
from luminoracore_sdk.application.users import UserSessions
from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    LuminoraCoreSDKError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, check_json
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.personality import check_personality, merge_personality
from luminoracore_sdk.domain.recall.hits import Hit, HitKind
from luminoracore_sdk.domain.retention import RetentionPolicy
from luminoracore_sdk.domain.scopes import Owner, check_user_id
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig
from luminoracore_sdk.domain.summaries import ConversationPage, SessionChange, watched_from
from luminoracore_sdk.domain.usage import Usage
from luminoracore_sdk.domain.values import check_id, to_microseconds
from luminoracore_sdk.domain.vendors import VendorRules

if TYPE_CHECKING:
    from luminoracore_sdk.application.exchange.export_import import SessionExchange
    from luminoracore_sdk.application.memory_choice import MemoryChoice
    from luminoracore_sdk.application.recall import Recall

__all__ = ["Sessions"]

logger = logging.getLogger(__name__)


def _memory_choice(memories: Memories, services: Services, storage: SessionStorage) -> "MemoryChoice | None":
    """Return what chooses the memories of a prompt; None: search is off, all of them are sent."""
    if storage.search is None:
        return None
    from luminoracore_sdk.application.memory_choice import MemoryChoice  # noqa: PLC0415  # only where search is on

    return MemoryChoice(memories.config, services.tokens, storage.search)


def _recall(services: Services, storage: SessionStorage) -> "Recall | None":
    """Return what finds messages and memories; None: search is off."""
    if storage.search is None:
        return None
    from luminoracore_sdk.application.recall import Recall  # noqa: PLC0415  # only where search is on

    return Recall(storage=storage, codec=services.codec, tokens=services.tokens, clock=services.clock)


class Sessions:
    """Creates and resumes sessions of AI personalities, and sends messages to their providers.

    Composed of a ``Conversations``, a ``Memories`` and a storage, each of which can be used alone. A session
    lives in the storage: another manager over the same storage, in this process or another, can resume it.
    API keys are never stored: for a resumed session the key comes from the environment or from
    ``load_session(id, provider_config=...)``.

    Args:
        storage: Stores the sessions; defers the writes of those with ``auto_save=False``.
        services: The other ports.
        conversations: Stores the messages in the same storage.
        memories: Stores the memories in the same storage.
        exchange: Makes what exports from the same storage.
        owns_storage: Whether ``close`` closes the storage.

    Attributes:
        storage: The storage that was passed in.
        conversation_manager: Its ``Conversations``.
        memory_manager: Its ``Memories``.
    """

    def __init__(
        self,
        *,
        storage: DeferredWriteStorage,
        services: Services,
        conversations: Conversations,
        memories: Memories,
        exchange: "Callable[[], SessionExchange]",
        owns_storage: bool,
    ) -> None:
        self.conversation_manager = conversations
        self.memory_manager = memories
        self._storage = storage
        self._services = services
        self._exchange = exchange
        self._owns_storage = owns_storage
        self._providers = SessionProviders(services.providers)
        self._sessions = SessionAccess(storage, services.codec)
        self._listings = Listings(storage=storage, codec=services.codec)
        self._recall = _recall(services, storage)  # one for all handles of users
        self._revisions = Revisions(storage=storage, services=services)
        self._dialogue = Dialogue(
            sessions=self._sessions,
            conversations=conversations,
            memories=memories,
            providers=self._providers,
            services=services,
            costs=MessageCosts(services.tokens),
            memory_choice=_memory_choice(memories, services, storage),
            memory_text=MemoryRenderer(services.tokens, services.notations),
            revisions=self._revisions,
        )

    @property
    def storage(self) -> SessionStorage:
        """The storage that was passed in."""
        return self._storage.stored

    async def close(self) -> None:
        """Close the providers, and the storage if this manager created it.

        A warning in the log counts sessions with ``auto_save=False`` that have unsaved changes.
        """
        if unsaved := await self._storage.unsaved():
            logger.warning("%d sessions were closed without save_session", len(unsaved))
        try:
            await self._providers.close()
        finally:
            if self._owns_storage:
                await self._storage.close()

    async def __aenter__(self) -> Self:
        await self._storage.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- create, load, save, change, delete ------------------------------------------------------

    async def create_session(
        self,
        personality: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        session_config: SessionConfig | Mapping[str, Any] | None = None,
    ) -> str:
        """Create a session and return its id.

        Args:
            personality: A JSON object with a ``system_prompt``, or with fields to compose one from.
            provider_config: A name, and optionally api_key, model, base_url and extra.
            session_config: The settings; its ``session_id``, if given, becomes the id.

        Raises:
            ProviderError: The provider_config cannot work; nothing was stored.
            SessionExistsError: The id is taken.
            ValidationError: Another argument is invalid.
        """
        config = self._services.codec.settings(SessionConfig, session_config or {})
        provider = self._providers.checked(provider_config or config.provider_config)
        now = self._services.clock.now()
        session = Session(
            session_id=config.session_id or self._services.ids.new_id(),
            personality=check_personality(personality if personality is not None else config.personality),
            provider=provider.public(),
            config=config,
            created_at=now,
            last_activity=now,
        )
        record = self._services.codec.session_record(session)
        await self._sessions.insert(record, defer=not config.auto_save)
        self._providers.forget(session.session_id)  # of an earlier session of this id, which another process deleted
        self._providers.remember(session.session_id, provider)
        return session.session_id

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session as this manager sees it, unsaved changes included, or None."""
        return await self._sessions.find(session_id)

    async def load_session(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> Session | None:
        """Return a session as it is stored, or None.

        Args:
            session_id: Any id.
            provider_config: Passes the api_key again for a resumed session; it must name the session's
                provider. This manager uses it from now on and does not store it.

        Raises:
            ProviderError: ``provider_config`` is invalid or names another provider.
        """
        session = await self._sessions.read(session_id, self._storage.stored)
        if session is not None and provider_config is not None:
            self._providers.reattach(session, provider_config)
        return session

    async def save_session(self, session_id: str) -> bool:
        """Write all unsaved changes of a session; return False if there is no such session.

        With ``auto_save=True`` there are never any. With ``auto_save=False`` this is the only write. The changes of a
        session that was erased with its user meanwhile are dropped.

        Raises:
            ConflictError: Another writer changed the stored session meanwhile. The unsaved changes are kept.
        """
        await self._storage.flush(session_id)
        return await self._storage.session_exists(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with its conversation and memory; return False if there is none."""
        async with self._sessions.lock(session_id).interrupting():
            return await self._sessions.is_visible(session_id) and await self._delete(session_id)

    async def _delete(self, session_id: str) -> bool:
        self._providers.forget(session_id)
        async with self.memory_manager.of_session(session_id).removing():
            return await self._storage.delete_session(session_id)

    async def update_personality(self, session_id: str, personality: Mapping[str, Any]) -> bool:
        """Replace some top-level fields of the personality; return False if there is no such session.

        Changes that other writers make to other fields meanwhile are kept.
        """
        changes = check_personality(personality)

        def changed(session: Session) -> Session:
            return attrs.evolve(session, personality=merge_personality(session.personality, changes))

        return await self._sessions.change(session_id, changed)

    async def update_provider(self, session_id: str, provider_config: Mapping[str, Any] | ProviderConfig) -> bool:
        """Change the provider or model of a session; return False if there is no such session.

        It is stored without its key, as by ``create_session``.

        Raises:
            ProviderError: The provider_config cannot work; nothing was changed.
        """
        provider = self._providers.checked(provider_config)
        updated = await self._sessions.change(
            session_id, lambda session: attrs.evolve(session, provider=provider.public())
        )
        if updated:
            self._providers.forget(session_id)
            self._providers.remember(session_id, provider)
        return updated

    async def provider_rules(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> VendorRules:
        """Return what the provider of a session accepts in a prompt.

        Args:
            session_id: An existing session.
            provider_config: As for ``send_message``.

        Raises:
            SessionNotFoundError: No such session.
            ProviderError: The session has no provider, or it cannot be created.
        """
        session = await self.get_session(session_id)
        if session is None:
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return self._providers.rules(session, provider_config)

    async def update_session(
        self,
        session_id: str,
        *,
        title: str | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        archived: bool | None = None,
        pinned: bool | None = None,
        attributes: Mapping[str, Any] | None = None,
        ttl: float | EllipsisType | None = ...,
        config: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change the header of a session; return False if there is no such session.

        Changes that other writers make to other parts meanwhile are kept.

        Args:
            session_id: Any id.
            title: The new title; None: no title.
            metadata: Fields to set; None as a value removes a field.
            tags: The new tags.
            add_tags: Tags to add to those that there are.
            remove_tags: Tags to remove.
            archived: Whether it is archived.
            pinned: Whether it is pinned.
            attributes: The new attributes, as ``SessionConfig.attributes``.
            ttl: Seconds without activity after which it expires; None: never.
            config: Other settings of ``SessionConfig`` to change, except the user and ``auto_save``.

        Raises:
            ValidationError: A value is invalid; nothing was changed.
        """
        settings, fields = _object(config, "config"), _object(metadata, "metadata")
        if fixed := sorted(_FIXED_SETTINGS & settings.keys()):
            raise ValidationError(f"{fixed[0]!r} of a session is not changed by update_session")
        to_add, to_remove = _names(add_tags, "add_tags"), _names(remove_tags, "remove_tags")
        new_tags = None if tags is None else _names(tags, "tags")
        named = {"tags": new_tags, "archived": archived, "pinned": pinned, "attributes": attributes}
        settings |= {name: value for name, value in named.items() if value is not None}
        settings |= {name: value for name, value in (("title", title), ("ttl", ttl)) if value is not ...}
        check_json(fields, where="metadata")

        def changed(session: Session) -> Session:
            merged = {**session.metadata, **fields}
            config = self._services.codec.settings(
                SessionConfig, {**attrs.asdict(session.config, recurse=False), **settings}
            )
            kept = [one for one in config.tags if one not in to_remove]
            return attrs.evolve(
                session,
                config=attrs.evolve(config, tags=[*kept, *(one for one in to_add if one not in kept)]),
                metadata={name: value for name, value in merged.items() if value is not None},
            )

        return await self._sessions.change(session_id, changed)

    async def suggest_title(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> str:
        """Ask the session's provider for a title of the conversation; nothing is stored.

        Args:
            session_id: An existing session.
            provider_config: See ``send_message``; for example another ``model``.

        Returns:
            One line of at most 80 characters; empty if nothing was said yet.

        Raises:
            SessionNotFoundError: No such session.
            ProviderError: The provider did not answer.
        """
        session = await self._sessions.find(session_id)
        if session is None:
            raise SessionNotFoundError(session_id, backend=self._storage.backend)
        return await self._dialogue.suggest_title(session, provider_config)

    # -- send messages ---------------------------------------------------------------------------

    async def send_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        *,
        context: str = "",
        on_failure: OnFailure = "discard",
        busy: Busy = "wait",
        fence: int | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Send a message to the provider, and store question and answer together.

        Calls for one session run one after the other, those for different sessions concurrently. A send can be
        repeated: a message whose ``id`` is stored already is not sent again, and its stored answer is returned.

        Args:
            session_id: An existing session.
            message: A string, or a Message of role user or tool, or its dictionary; or several results of
                parallel tool calls, in any order.
            temperature: The sampling temperature; the default yields to ``generation_params``.
            max_tokens: The largest length of the answer; None: that of ``generation_params``, else the
                provider's own.
            context: Text for this turn alone (the date, retrieved documents); it is sent and never stored.
            on_failure: What happens to the question if the provider fails: ``"discard"`` or ``"keep_question"``.
            busy: Whether to ``"wait"`` for another turn of this process, or to ``"refuse"`` while another turn of any
                process that refuses too is in progress; see ``turn_lease``.
            fence: That of a lease which the caller holds; the turn is not stored once another holder has it.
            provider_config: Fields of the provider's configuration for this call alone, such as ``api_key``. With a
                ``base_url`` that is not the session's, the key must be among them if the provider needs one.
            **kwargs: Passed to the provider.

        Returns:
            The answer, with ``id`` and ``position`` of its stored message.

        Raises:
            SessionNotFoundError: No such session.
            ProviderError: The provider did not answer; nothing of the turn was stored, unless ``on_failure``
                says so.
            ConflictError: The ``id`` of the message belongs to another message of the session, or some of several
                messages are stored and others are not; the provider was not asked.
            ContextWindowError: The turn does not fit the context window; the provider was not asked.
            ToolCallNotFoundError: The call of a result lies more than about 1,000 messages back; the provider was not
                asked.
            SessionBusyError: Another turn is in progress, and ``busy`` is ``"refuse"``.
            LeaseLostError: Another holder has the lease; nothing of the turn was stored.
            TurnInterruptedError: The session was deleted or cleared meanwhile.
            StorageError: The turn could not be stored; nothing of it was.
        """
        options = SendOptions(
            temperature=temperature,
            max_tokens=max_tokens,
            context=context,
            on_failure=on_failure,
            busy=busy,
            fence=fence,
            provider_config=provider_config,
            extra=kwargs,
        )
        return await self._dialogue.send(session_id, message, options)

    async def stream_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        *,
        context: str = "",
        on_failure: OnFailure = "discard",
        on_stop: OnStop = "discard",
        busy: Busy = "wait",
        fence: int | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        reader_timeout: float = DEFAULT_READER_TIMEOUT,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer in deltas; other arguments and errors are those of ``send_message``.

        The turn is stored when the provider has finished, before the delta with ``finish_reason`` is
        yielded. Nothing is stored of a stream that fails, is cancelled or is abandoned before. The session
        is locked while the stream is open: do not send messages to it within the loop. The provider is read at
        its own pace, so that a slow reader does not hold up the turn.

        Args:
            session_id: See ``send_message``.
            message: See ``send_message``.
            temperature: See ``send_message``.
            max_tokens: See ``send_message``.
            context: See ``send_message``.
            on_failure: See ``send_message``.
            on_stop: What happens to an answer that is stopped (closed, cancelled or broken) in the middle:
                ``"discard"``, or ``"keep_partial"``: it is stored with the finish reason ``stopped``.
            busy: See ``send_message``.
            fence: See ``send_message``.
            provider_config: See ``send_message``.
            reader_timeout: Seconds for which a reader may take nothing once 1,024 deltas wait for it.
            **kwargs: Passed to the provider.

        Raises:
            ReaderTimeoutError: The reader took nothing in time.
        """
        options = SendOptions(
            temperature=temperature,
            max_tokens=max_tokens,
            context=context,
            on_failure=on_failure,
            on_stop=on_stop,
            busy=busy,
            fence=fence,
            provider_config=provider_config,
            reader_timeout=reader_timeout,
            extra=kwargs,
        )
        async with aclosing(self._dialogue.stream(session_id, message, options)) as deltas:
            async for delta in deltas:
                yield delta

    # -- change the past -------------------------------------------------------------------------

    async def edit_message(
        self,
        session_id: str,
        message_id: str,
        message: str | Message | Mapping[str, Any],
        **options: Any,
    ) -> ChatResponse:
        """Replace a message of the user, and all behind it, by another message and its answer.

        Both are stored in one step, when the provider has answered. What was replaced stays as an alternative of the
        new message, see ``alternatives``.

        Args:
            session_id: An existing session.
            message_id: The id of a message of the user.
            message: What is sent instead, a message of the user; its ``id``, if given, is a new one.
            **options: Of ``send_message``.

        Raises:
            MessageNotFoundError: No such message.
            ValidationError: One of the messages is not one of a user.
            ConflictError: The new ``id`` is stored already, and the provider was not asked; or another writer has
                changed the conversation meanwhile. Nothing was changed.
        """
        revises = Revises(message_id=check_id(message_id, "message id"), edits=True)
        return await self._dialogue.send(session_id, message, _revising(revises, options))

    async def stream_edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer to an edited message in deltas; see ``edit_message`` and ``stream_message``."""
        revises = Revises(message_id=check_id(message_id, "message id"), edits=True)
        async with aclosing(self._dialogue.stream(session_id, message, _revising(revises, options))) as deltas:
            async for delta in deltas:
                yield delta

    async def regenerate(self, session_id: str, message_id: str | None = None, **options: Any) -> ChatResponse:
        """Ask a question again, and put the answer in the place of all behind the question.

        What was replaced stays as an alternative of the new answer, see ``alternatives``.

        Args:
            session_id: An existing session.
            message_id: The id of a question, or of a message of its answer; None: the newest question.
            **options: Of ``send_message``.

        Raises:
            MessageNotFoundError: No such message.
            ValidationError: There is no question.
            ConflictError: Another writer has changed the conversation meanwhile; nothing was changed.
        """
        revises = Revises(message_id=message_id, edits=False)
        return await self._dialogue.send(session_id, None, _revising(revises, options))

    async def stream_regenerate(
        self, session_id: str, message_id: str | None = None, **options: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield a new answer in deltas; see ``regenerate`` and ``stream_message``."""
        revises = Revises(message_id=message_id, edits=False)
        async with aclosing(self._dialogue.stream(session_id, None, _revising(revises, options))) as deltas:
            async for delta in deltas:
                yield delta

    async def alternatives(self, session_id: str, message_id: str) -> list[list[Message]]:
        """Return what a message has replaced, the newest last; each alternative is a list of messages.

        Raises:
            MessageNotFoundError: No such message.
        """
        return await self._revisions.alternatives(session_id, message_id)

    async def choose(self, session_id: str, message_id: str, number: int) -> list[Message]:
        """Put an alternative in the place of a message and of all behind it, which become an alternative.

        Args:
            session_id: An existing session.
            message_id: The message that has the alternatives.
            number: Which of ``alternatives``, from 0.

        Returns:
            The messages that stand there now.

        Raises:
            MessageNotFoundError: No such message.
            ValidationError: There is no such alternative.
            ConflictError: Another writer has changed the conversation meanwhile; nothing was changed.
        """
        async with self._changing(session_id):
            return await self._revisions.choose(session_id, message_id, number)

    async def rewind(self, session_id: str, to: str | int) -> list[Message]:
        """Remove every message behind one; return what was removed, oldest first.

        Args:
            session_id: An existing session.
            to: The id or the position of the last message that stays; 0: none does.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: No such message.
        """
        async with self._changing(session_id):
            return await self._revisions.rewind(session_id, to)

    async def fork(
        self,
        session_id: str,
        at: str | int | None = None,
        *,
        new_session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Copy a session up to a message into a new one, and return its id.

        Ids and positions of the messages stay; personality, provider, settings and memories are copied; the new
        session's ``metadata["parent"]`` names the old one and the position. Afterwards the two are independent. The
        messages are copied in one step, then the memories. A call that fails or is cancelled in between is completed by
        the same call with the same ``new_session_id``; without one, it deletes the copy.

        Args:
            session_id: An existing session.
            at: The id or the position of the last message that is copied; None: the newest.
            new_session_id: The id of the new session; None: one is generated.
            metadata: Further fields for the metadata of the new session.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: No such message.
            SessionExistsError: Another session has the new id.
            ConflictError: The session was cut off meanwhile; nothing was created.
        """
        new_id = self._services.ids.new_id() if new_session_id is None else new_session_id
        fork = Fork(storage=self._storage, codec=self._services.codec, clock=self._services.clock)
        try:
            copied = await fork.make(session_id, at, new_id, _object(metadata, "metadata"))
            self._providers.share(session_id, new_id)
            if copied:
                await self._sessions.change(new_id, fork.completed)
        except BaseException as exc:
            if new_session_id is None:  # the caller has no id with which to complete it
                with suppress(LuminoraCoreSDKError):
                    await self.delete_session(new_id)
            if isinstance(exc, ConflictError | SessionNotFoundError):
                await self._delete_fork_of_erased(session_id, new_id)
            raise
        await self._delete_fork_of_erased(session_id, new_id)
        return new_id

    async def _delete_fork_of_erased(self, session_id: str, new_id: str) -> None:
        """Delete a copy that was made while its session was erased.

        Raises:
            SessionNotFoundError: It was.
        """
        if await is_erased(self._storage, session_id):
            await self.delete_session(new_id)
            raise SessionNotFoundError(session_id, backend=self.storage.backend)

    async def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations (feedback, labels) to a message, which are never sent to a provider; None removes one.

        Returns:
            The message with all its annotations, in ``metadata["annotations"]``.

        Raises:
            MessageNotFoundError: No such message.
            InvalidJSONError: A value is not JSON; nothing was changed.
        """
        await self._sessions.find_for_change(session_id)
        return await self._revisions.annotate(session_id, message_id, annotations)

    async def redact(self, session_id: str, message_id: str) -> Message:
        """Remove the content of a message for good, with its metadata and alternatives; id and position stay.

        A message that is not in the conversation is looked for among all alternatives, by a read of the whole history,
        and redacted there.

        Raises:
            MessageNotFoundError: No such message.
        """
        async with self._changing(session_id):
            return await self._revisions.redact(session_id, message_id)

    async def delete_messages(self, session_id: str, message_ids: Iterable[str]) -> int:
        """Delete messages: content, metadata and alternatives are gone for good.

        If the conversation ends with these messages and with them alone, nothing is left of them. Of others id, role,
        time and position stay, as their neighbours keep their positions; no read returns them. Each message is deleted
        in one atomic step; a call that failed or was killed is repeated. Deleted messages stay deleted: a message that
        is added under the id of one again is not stored.

        In a prompt, the results of a deleted tool call are omitted, and for a deleted result stands that there is none.
        Name both to delete both. Copies stay: in a fork, and in the alternatives of a message that is not named.

        Args:
            session_id: An existing session.
            message_ids: Any number of ids, an id twice counts once.

        Returns:
            The number of messages that were not deleted when the call began.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: There is no message of one of the ids, or it was at the end and nothing is left of
                it; nothing was changed.
        """
        ids = checked_ids(message_ids)
        async with self._changing(session_id):
            if await self._sessions.find(session_id) is None:
                raise SessionNotFoundError(session_id, backend=self._storage.backend)
            return await self._revisions.delete(session_id, ids, note=partial(self._note_deletions, session_id))

    async def _note_deletions(self, session_id: str) -> None:
        session = await self._sessions.find(session_id)
        if session is not None and not session.has_deletions:
            await self._sessions.change(session_id, lambda found: attrs.evolve(found, has_deletions=True))

    @asynccontextmanager
    async def _changing(self, session_id: str) -> AsyncIterator[None]:
        """Interrupt the turn in progress, and let no other begin within the block."""
        async with self._sessions.lock(session_id).interrupting():
            await self._sessions.check(session_id)
            await self._sessions.find_for_change(session_id)
            yield

    # -- search ----------------------------------------------------------------------------------

    async def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_ids: Collection[str] | None = None,
        kinds: Collection[HitKind] = ("message", "memory"),
        limit: int = 10,
        max_tokens: int | None = None,
        between: tuple[datetime | None, datetime | None] | None = None,
        roles: Collection[str] | None = None,
        around: int = 0,
        explain: bool = False,
    ) -> list[Hit]:
        """Return the messages and memories that answer a query, the best first.

        They are found by their words, by the messages around them and, where the storage has an embedder, by their
        meaning. The same store gives the same list on every backend, compressed and encrypted too. What other
        processes have written before the call is found.

        The first query for a user reads an index of all that the user has; later ones read what has changed since.

        Args:
            query: Any text; operators are plain text. A query without any word returns no hits.
            user_id: Search what this user has: sessions, and the memories of the user.
            session_ids: Only these sessions; without ``user_id``, also their memories.
            kinds: ``"message"``, ``"memory"``, or both.
            limit: Largest number of hits.
            max_tokens: The texts of the hits have at most so many tokens together; hits that do not fit are left out.
            between: Only what was said or stored from the first time on, and before the second; None: without bound.
            roles: Only messages of these roles.
            around: Number of messages before and after each hit that are returned with it.
            explain: Whether ``Hit.parts`` says what each score is made of.

        Raises:
            ConfigurationError: Search is off; see ``StorageConfig.search``.
            ValidationError: An argument is invalid.
        """
        if self._recall is None:
            from luminoracore_sdk.application.ports.searching import SEARCH_IS_OFF  # noqa: PLC0415  # see _recall

            raise ConfigurationError(SEARCH_IS_OFF)
        from luminoracore_sdk.application.recall import recall_filter, recall_scope  # noqa: PLC0415  # see _recall

        return await self._recall.find(
            query,
            recall_scope(user_id, session_ids),
            only=recall_filter(user_id=user_id, session_ids=session_ids, kinds=kinds, between=between, roles=roles),
            limit=limit,
            max_tokens=max_tokens,
            around=around,
            explain=explain,
        )

    # -- several processes -----------------------------------------------------------------------

    @asynccontextmanager
    async def turn_lease(self, session_id: str, *, ttl: float = DEFAULT_LEASE_SECONDS) -> AsyncIterator[TurnLease]:
        """Be the only holder of a session's lease within the block, over all processes.

        The lease is renewed as long as the block runs. If the process is killed or stopped, it passes to another
        holder after ``ttl``; a call with the old fence is refused from then on, so that a holder that comes back
        changes nothing. A call without a fence is not affected by leases.

        Args:
            session_id: An existing session.
            ttl: Seconds that the lease outlives the process. The clocks of the processes must differ by less.

        Yields:
            The lease; pass its ``fence`` to ``send_message``.

        Raises:
            SessionNotFoundError: No such session.
            SessionBusyError: Another holder has the lease.
        """
        await self._sessions.check(session_id)
        holder = self._services.ids.new_id()
        async with turn_lease(self._storage, session_id, holder=holder, seconds=ttl) as lease:
            yield lease

    async def stop(self, session_id: str) -> bool:
        """Stop the answer of a session that is under way, and wait until the turn has ended.

        A streamed answer ends with what has come, which is stored as with ``on_stop="keep_partial"``; its last delta
        has the finish reason ``stopped``. Nothing is stored of an answer that is not streamed, or of which nothing
        has come: its caller gets ``TurnInterruptedError``. While a tool runs, no answer is under way; a run of tools
        ends with an answer that is stopped. A turn that waits for the one that is stopped begins.

        A turn of another process, or of another event loop, can be stopped if it was begun with ``busy="refuse"``: it
        looks once a second, and is given ten seconds to store what has come. Others cannot.

        Args:
            session_id: The session.

        Returns:
            Whether an answer was stopped: not if none was under way, or it had come as a whole. One of another process
            may have ended by itself meanwhile.
        """
        if await self._sessions.lock(session_id).stop():
            return True
        now_us = to_microseconds(self._services.clock.now())
        return await stop_holder(self._storage, session_id, now_us=now_us)

    async def watch(self, session_id: str, *, after: int | str = 0) -> AsyncGenerator[SessionChange, None]:
        """Yield the messages behind a position, then every change that follows, until the session is deleted.

        Applying the changes in order to a copy of the conversation gives what is stored; a change may come twice, and
        a message that was added and removed within half a second may not come at all. Turns of the same process are
        seen at once, those of others too where the server tells of them, else within half a second.

        Args:
            session_id: An existing session.
            after: The ``cursor`` of the last change that the caller has followed, such as the ``Last-Event-ID`` of a
                browser: what was updated or removed since comes first. Or a position: the caller knows the messages
                up to there as they are now.

        Raises:
            SessionNotFoundError: No such session.
            StorageUnavailableError: The backend cannot be reached; call again with the last cursor.
            ValidationError: ``after`` is neither a cursor nor a position.
        """
        before = await self._sessions.header(session_id)
        if before is None:
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        position, seen = watched_from(after)
        changes = cast("AsyncGenerator[Change, None]", self._storage.watch(session_id, after=position, seen=seen))
        async with aclosing(changes):
            async for change in changes:
                message = change.message
                position = position if change.kind == "updated" else change.position
                yield SessionChange(
                    kind=change.kind,
                    position=change.position,
                    message=None
                    if message is None
                    else self._services.codec.message(message, backend=self.storage.backend, session_id=session_id),
                    cursor=f"{position}.{change.number}",
                )

    # -- users -----------------------------------------------------------------------------------

    def for_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> UserSessions:
        """Return a handle on the sessions and memories of one user, which reaches no others.

        It costs nothing, so that a web service can make one for each request. It works as long as this manager.

        Args:
            user_id: Any id, as ``SessionConfig.user_id``; nothing needs to be stored of it yet.
            tenant: The tenant of the user: the same id of another tenant, or of none, is another user. None: there are
                no tenants.
            app: The app of the user, likewise, such as that of a session of the Google ADK; None: there are no apps.

        Raises:
            ValidationError: An id is invalid or reserved, or all together are too long.
        """
        owner = Owner.of_user(user_id, tenant, app)
        access = attrs.evolve(self._sessions, user_id=owner.id)
        narrowed = copy(self)
        vars(narrowed).update(_sessions=access, _dialogue=attrs.evolve(self._dialogue, sessions=access))
        return UserSessions(narrowed, access, owner)

    async def erase_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> ErasureReceipt:
        """Delete every session of a user, with messages and memories, and the memories of the user.

        Turns in progress are interrupted, and API keys that this manager remembers for the sessions are forgotten. The
        passes over the store are repeated until one finds nothing, which the receipt calls ``verified``. An erasure
        that was killed is repeated; the receipt of the second call counts what that call deleted. Expired records of
        the whole store are removed as well, and not counted: those of the user may be among them.

        Writers that are under way, in this process or another: what they write to a session of the user, to its memory
        or to that of its user, and a fork of it, is either erased too or refused with ``SessionNotFoundError``;
        ``save_session`` drops unsaved changes of it and returns False. For a day, an erased session is not created
        again by a message or a memory for its id; ``create_session`` may use the id at once. A session that is created
        for the user during the erasure, and a memory that is stored for the id of the user, are new: the passes find
        them, or they stay.

        Files: JSON files are deleted. SQLite overwrites what is deleted (``PRAGMA secure_delete``), and the
        write-ahead log is emptied at the end, unless another connection reads from it at that moment; then it is
        emptied when the last connection is closed. Servers reclaim space in their own time (PostgreSQL: VACUUM).
        Not erased are what other processes hold in memory, backups, the log, and a dictionary that ``luminora optimize
        train`` made from messages.

        Args:
            user_id: Any id.
            tenant: The tenant of the user, as for ``for_user``.
            app: The app of the user, as for ``for_user``.

        Returns:
            The receipt; ``verified`` is False if other processes keep on writing for the user.

        Raises:
            ValidationError: The id is invalid or reserved.
        """
        erasure = Erasure(
            user_id=Owner.of_user(user_id, tenant, app).id,
            access=self._sessions,
            services=self._services,
            delete=self.delete_session,
        )
        try:
            return await erasure.run()
        finally:
            for known in (self._recall, self._dialogue.memory_choice, self._dialogue.memory_text):
                if known is not None:
                    known.forget()

    async def apply_retention(
        self, policy: RetentionPolicy, *, user_id: str | None = None, dry_run: bool = False
    ) -> RetentionReport:
        """Delete the sessions and messages that a policy does not keep.

        Sessions are deleted whole, one by one; a call that failed or was killed is repeated and does the rest. The
        oldest messages of long conversations are deleted as by ``delete_messages``; this is no activity. What a
        session is kept for is compared again right before it is deleted: one that was written since it was listed, or
        is in a turn of this process, is kept until the next call. Only what is written in the moment between this
        comparison and the deletion (one call of the storage, and one more where the Core is installed) is lost with the
        session; annotations and redactions are not compared.

        Of a session with ``auto_save=False`` and unsaved changes, what this manager has is trimmed, and the store with
        the next ``save_session``.

        Args:
            policy: What is kept. Ages are those at the beginning of the call, by this process's clock; activity is
                timed by the store's.
            user_id: Only sessions of this user; None: all.
            dry_run: Whether to change nothing.

        Returns:
            What was deleted, or would be.

        Raises:
            ValidationError: The id of the user is invalid or reserved.
        """
        if not isinstance(policy, RetentionPolicy):
            raise ValidationError(f"policy must be a RetentionPolicy, not {type(policy).__name__}")
        if type(dry_run) is not bool:
            raise ValidationError(f"dry_run must be True or False, not {type(dry_run).__name__}")
        return await Retention(
            policy=policy,
            user_id=None if user_id is None else check_user_id(user_id),
            dry_run=dry_run,
            access=self._sessions,
            conversations=self.conversation_manager,
            revisions=self._revisions,
            clock=self._services.clock,
            delete=self._delete,
        ).run()

    async def export_user(
        self, user_id: str, tenant: str | None = None, app: str | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield everything that is stored of a user as lines of JSON, which ``luminora sessions import`` reads.

        The lines come in pieces, to be written one after the other: sessions with their messages and memories, a
        line each, and a line with the memories of the user. Memory use does not depend on their number or length.

        Args:
            user_id: Any id; of a user of whom nothing is stored, nothing is yielded.
            tenant: The tenant of the user, as for ``for_user``.
            app: The app of the user, as for ``for_user``.

        Raises:
            SessionNotFoundError: A session was deleted in the middle of its line.
            CorruptRecordError: A record cannot be read.
            ValidationError: The id is invalid or reserved.
        """
        async with aclosing(self._exchange().export_user(Owner.of_user(user_id, tenant, app).id)) as pieces:
            async for piece in pieces:
                yield piece

    # -- read, list ------------------------------------------------------------------------------

    async def get_conversation(self, session_id: str) -> Conversation | None:
        """Return the newest ``max_history`` messages of a session, or None."""
        session = await self.get_session(session_id)
        if session is None:
            return None
        return await self.conversation_manager.get_conversation(session_id, limit=session.config.max_history)

    async def clear_conversation(self, session_id: str) -> bool:
        """Remove every message of a session, not its memory; return False if there is no such session."""
        async with self._sessions.lock(session_id).interrupting():
            if await self._sessions.find_for_change(session_id) is None:
                return False
            return await self.conversation_manager.clear_conversation(session_id)

    async def list_sessions(self, *, user_id: str | None = None, tag: str | None = None) -> list[str]:
        """Return the ids of sessions, of one user or with one tag if given, by time of creation, then id."""
        query = SessionQuery(user_id=user_id, tag=tag)
        return [record.session_id async for record in headers(self._storage, query)]

    async def list_conversations(  # the filters
        self,
        user_id: str | None = None,
        *,
        tag: str | None = None,
        archived: bool | None = False,
        pinned: bool | None = None,
        order: Order = "activity",
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        """Return one page of a list of conversations, the newest first, without reading a message.

        Each row has title, attributes, first and last text, counts and tokens. A session that is written while the
        pages are read moves to the top, so that it may be listed twice or on no page.

        The storage selects by one of ``pinned=True``, ``tag`` and ``archived=True``, in this order, and by one of
        ``archived=False`` and ``pinned=False``. If more are given, rows are read until those that match fill the page.

        Args:
            user_id: Only those of this user; None: all.
            tag: Only those with this tag.
            archived: Whether to list those that are archived (True), the others (False), or all (None).
            pinned: Likewise those that are pinned.
            order: ``"activity"``: by the last change; ``"created"``: by creation.
            limit: Largest number of rows, 1..1000.
            cursor: The ``next_cursor`` of the page before; None: the first page.

        Raises:
            ValidationError: An argument is invalid, such as a cursor that is none.
        """
        return await self._listings.conversations(
            user_id=user_id, tag=tag, archived=archived, pinned=pinned, order=order, limit=limit, cursor=cursor
        )

    async def usage(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> Usage:
        """Return the tokens of a session, of a user's sessions, or of all, without reading a message.

        Turns that were edited, regenerated or removed are counted; deleted sessions are not, so bill before you delete.
        Not counted either: answers that were not stored, such as those of turns that failed or lost their lease, and
        ``suggest_title``. In a session that was imported, the counts are those of its export, if that has any.
        ``Usage.cost`` makes money of it, ``Usage.of_answer`` does the same for one answer.

        Args:
            session_id: An existing session; None: several.
            user_id: Only sessions of this user.
            since: Only answers of this day (UTC) or later. What is older than last month may be counted on the first
                day of its month, and what is older than last year on the first day of its year.
            until: Only answers before this day.

        Raises:
            SessionNotFoundError: No such session.
            ValidationError: An argument is invalid.
        """
        check_days(since, until)
        if session_id is None:
            return await self._listings.usage(SessionQuery(user_id=user_id), since=since, until=until)
        record = await self._sessions.header(session_id)
        if record is None or user_id not in (None, record.user_id):
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return Usage.of_counters(record.summary.counters, since=since, until=until)

    async def get_session_info(self, session_id: str) -> JSONObject | None:
        """Return a summary of a session, or None.

        Keys: session_id, personality (its name), provider, model, created_at, last_activity,
        message_count.
        """
        session = await self.get_session(session_id)
        return None if session is None else session.info()


_FIXED_SETTINGS = frozenset(
    {
        *("session_id", "personality", "provider_config", "storage", "user_id", "auto_save"),
        *("tags", "ttl", "title", "archived", "pinned", "attributes"),
    }
)
_OPTIONS = frozenset(field.name for field in attrs.fields(SendOptions)) - {"revises", "extra"}


def _revising(revises: Revises, options: Mapping[str, Any]) -> SendOptions:
    """Return the options of a turn that replaces a part of the past; others are passed to the provider."""
    known = {name: value for name, value in options.items() if name in _OPTIONS}
    extra = {name: value for name, value in options.items() if name not in _OPTIONS}
    return SendOptions(
        **{"temperature": DEFAULT_TEMPERATURE, "max_tokens": None, **known}, revises=revises, extra=extra
    )


def _names(value: Iterable[str], name: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValidationError(f"{name} must be a list of strings, not {type(value).__name__}")
    return tuple(value)


def _object(value: Mapping[str, Any] | None, name: str) -> JSONObject:
    if not isinstance(value, Mapping | None):
        raise ValidationError(f"{name} must be a mapping, not {type(value).__name__}")
    return dict(value or {})

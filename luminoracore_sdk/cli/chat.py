"""``luminora chat``: send one message, or converse line by line."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.application.exchange.fields import placed, read_json
from luminoracore_sdk.cli.context import STOPPED, CommandContext, error_line, not_empty
from luminoracore_sdk.cli.output import amount, display, printable
from luminoracore_sdk.cli.sessions import message_text_of, print_memory
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.session import Session

__all__ = [
    "ChatRepl",
    "chat",
]


HELP = """\
/help                 this list
/memory               what is remembered
/remember KEY VALUE   remember something
/forget KEY           forget it
/history              the conversation so far
/quit                 leave; so does Ctrl-D
//TEXT                send a message that begins with /"""


class ChatRepl:
    """One session at the keyboard or on a pipe.

    Args:
        context: Store and outputs.
        session_id: An existing session.
    """

    def __init__(self, context: CommandContext, session_id: str) -> None:
        self._desk = context
        self._id = session_id
        self._at_keyboard = context.is_at_keyboard
        self._position = 0

    def greet(self) -> None:
        """Tell what is remembered."""
        entries = self._desk.run(self._desk.manager.memory_manager.list_entries(self._id))
        for entry in entries:
            self._desk.say(f"remembers {entry.key}: {display(entry.value)}")

    def loop(self) -> None:
        """Take line after line, each a message or a command, until the end of input.

        Raises:
            typer.Exit: 130: Ctrl-C at the prompt, or anywhere on a pipe.
        """
        if self._at_keyboard:
            self._desk.say("/help shows the commands")
        resume = f"resume with: luminora chat --session {shlex.quote(self._id)}"
        try:
            self._take_lines()
        except KeyboardInterrupt as exc:
            self._desk.say(f"\n{resume}")
            raise typer.Exit(STOPPED) from exc
        self._desk.say(resume)

    def _take_lines(self) -> None:
        for line in self._lines():
            if line.startswith("/") and not line.startswith("//"):
                if line.split()[0] in {"/quit", "/exit"}:
                    return
                self._obey(line)
            else:
                self._take(line.removeprefix("/") if line.startswith("//") else line)

    def _lines(self) -> Iterator[str]:
        if not self._at_keyboard:
            try:
                yield from filter(None, (line.strip() for line in sys.stdin))
            except UnicodeDecodeError as exc:
                raise ValidationError("stdin: not UTF-8") from exc
            return
        while True:
            try:
                line = self._desk.err.input("[bold]you>[/] ").strip()
            except EOFError:
                self._desk.say("")
                return
            if line:
                yield line

    def _take(self, line: str) -> None:
        """Send a line; at the keyboard the conversation goes on after a failure or Ctrl-C."""
        try:
            self.say(line)
        except KeyboardInterrupt:
            self.tell_stopped()
            if not self._at_keyboard:
                raise
        except ProviderError as exc:
            if not self._at_keyboard:
                raise
            self._desk.say(f"luminora: {error_line(exc)}")

    def say(self, text: str) -> None:
        """Send a message and write the answer as it comes; Ctrl-C stops it."""
        self._position = self._desk.run(self._last_position())
        self._desk.run(self._stream(text))

    def tell_stopped(self) -> None:
        """Say what Ctrl-C left of the turn."""
        is_kept = self._desk.run(self._last_position()) > self._position
        self._desk.say(f"\nstopped; {'the' if is_kept else 'nothing of this'} turn is kept")

    async def _last_position(self) -> int:
        record = await self._desk.storage.find_session(self._id)
        return 0 if record is None else record.last_position

    async def _stream(self, text: str) -> None:
        as_json, parts = self._desk.options.as_json, []
        last = ChatResponse("")
        async with aclosing(self._desk.manager.stream_message(self._id, text)) as deltas:
            async for last in deltas:
                parts.append(last.content)
                if not as_json:
                    self._desk.write(printable(last.content))
        if not as_json:
            self._desk.write("\n")
            return
        answer = {**last.to_dict(), "content": "".join(parts)}
        self._desk.write_json({"session_id": self._id, **answer})

    # -- commands --------------------------------------------------------------------------------

    def remember(self, key: str, value: JSONValue) -> None:
        """Remember a value."""
        self._desk.run(self._desk.manager.memory_manager.store_memory(self._id, key, value))

    def _obey(self, line: str) -> None:
        match line.split(maxsplit=2):
            case ["/memory"]:
                self._show_memory()
            case ["/remember", key, value]:
                self.remember(key, value)
            case ["/forget", key]:
                self._forget(key)
            case ["/history"]:
                self._desk.run(self._show_history())
            case _:
                self._desk.say(HELP)

    def _forget(self, key: str) -> None:
        if not self._desk.run(self._desk.manager.memory_manager.delete_memory(self._id, key)):
            self._desk.say(f"nothing is remembered as {key}")

    def _show_memory(self) -> None:
        entries = self._desk.run(self._desk.manager.memory_manager.list_entries(self._id))
        if self._desk.options.as_json:
            self._desk.write_json([entry.to_dict() for entry in entries])
        elif entries:
            print_memory(self._desk, entries)
        else:
            self._desk.say("nothing is remembered")

    async def _show_history(self) -> None:
        messages = self._desk.manager.conversation_manager.stream_messages(self._id)
        async for message in messages:
            if self._desk.options.as_json:
                self._desk.write_json(message.to_dict())
            else:
                self._desk.out.print(message_text_of(message), soft_wrap=True)


MessageArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MESSAGE]",
        callback=not_empty,
        help="Without one: line by line, from the keyboard or a pipe.",
    ),
]
SessionOption = Annotated[str | None, typer.Option(metavar="ID", help="Resume this session.", show_default=False)]
CreateOption = Annotated[bool, typer.Option("--create", help="Begin the session of --session if there is none.")]
ProviderOption = Annotated[
    str | None, typer.Option(help="Who answers: openai, anthropic, ollama … [default: echo, offline]")
]
ModelOption = Annotated[str | None, typer.Option(show_default=False, help="Of the provider.")]
BaseUrlOption = Annotated[
    str | None, typer.Option(show_default=False, help="Of a server that speaks the provider's protocol.")
]
PersonalityOption = Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="A JSON object.")]
SystemOption = Annotated[str | None, typer.Option(show_default=False, help="The system prompt.")]
UserOption = Annotated[str | None, typer.Option(show_default=False, help="Whose session it is.")]
RememberOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", show_default=False, help="Remember this first; may be repeated."),
]


@attrs.frozen(kw_only=True)
class Wanted:
    """What the user said of a session; None: nothing."""

    provider: str | None
    model: str | None
    base_url: str | None
    personality: Path | None
    system: str | None
    user: str | None

    def provider_config(self, stored: JSONObject) -> JSONObject:
        """Return the provider_config: what the user said, and of the same provider what is stored."""
        said = {"name": self.provider, "model": self.model, "base_url": self.base_url}
        given = {name: value for name, value in said.items() if value is not None}
        return {**stored, **given} if self.provider in (None, stored.get("name")) else given

    def personality_data(self) -> JSONObject:
        """Return the personality: the file's, with the system prompt of the command line.

        Raises:
            ValidationError: The file holds no JSON object.
        """
        data: JSONValue = {}
        if self.personality is not None:
            with placed(str(self.personality)):
                data = read_json(self.personality.read_bytes())
        if not isinstance(data, dict):
            raise ValidationError(f"{self.personality}: a personality is a JSON object")
        return data if self.system is None else {**data, "system_prompt": self.system}


def chat(
    context: CommandContext,
    message: MessageArgument = None,
    *,
    session: SessionOption = None,
    create: CreateOption = False,
    provider: ProviderOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    personality: PersonalityOption = None,
    system: SystemOption = None,
    user: UserOption = None,
    remember: RememberOption = None,
) -> None:
    """ChatRepl. Keys come from the environment only: OPENAI_API_KEY, ANTHROPIC_API_KEY, and so on."""
    facts = [_fact(text) for text in remember or []]
    if create and session is None:
        raise typer.BadParameter("--create begins the session of --session ID; without one, leave it out")
    wanted = Wanted(
        provider=provider,
        model=model,
        base_url=base_url,
        personality=personality,
        system=system,
        user=user,
    )
    context.open(makes=create or session is None)
    session_id, is_new = context.run(_session(context, session, wanted, create=create))
    talk = ChatRepl(context, session_id)
    try:
        for key, value in facts:
            talk.remember(key, value)
        talk.greet()
        if message is None:
            talk.loop()
        else:
            _say_once(talk, message)
    except BaseException:
        if is_new and message is not None:
            context.run(_leave_nothing(context, session_id))
        raise


def _say_once(talk: ChatRepl, message: str) -> None:
    try:
        talk.say(message)
    except KeyboardInterrupt as exc:
        talk.tell_stopped()
        raise typer.Exit(STOPPED) from exc


async def _leave_nothing(context: CommandContext, session_id: str) -> None:
    """Delete a session that was made for one message and did not get it."""
    record = await context.storage.find_session(session_id)
    if record is not None and record.last_position == 0:
        await context.manager.delete_session(session_id)
        context.say(f"the new session {session_id} was deleted: it has no message")


def _fact(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"--remember takes KEY=VALUE, not {text!r}")
    return key, value


async def _session(
    context: CommandContext, session_id: str | None, wanted: Wanted, *, create: bool
) -> tuple[str, bool]:
    """Resume or begin a session; returns its id and whether it is new."""
    found = None if session_id is None else await context.manager.get_session(session_id)
    if session_id is not None and found is None and not create:
        context.say("to begin a session under an id of your own, add --create")
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    if found is None:
        config = {"session_id": session_id, "user_id": wanted.user}
        provider = wanted.provider_config({"name": "echo"})
        session_id = await context.manager.create_session(wanted.personality_data(), provider, config)
        context.say(f"new session {session_id}")
        return session_id, True
    if wanted.personality or wanted.system is not None or wanted.user:
        raise typer.BadParameter("--personality, --system and --user are for a new session")
    context.say(f"resumed session {found.session_id}, {amount(found.message_count, 'message')}")
    await _change_provider(context, found, wanted)
    return found.session_id, False


async def _change_provider(context: CommandContext, session: Session, wanted: Wanted) -> None:
    """Store another provider, model or base URL, if the user named one."""
    stored = session.provider or {}
    config = wanted.provider_config(stored)
    if config == stored:
        return
    await context.manager.update_provider(session.session_id, config)
    changed = await context.manager.get_session(session.session_id)
    now = (changed and changed.provider) or config
    answers = " ".join(filter(None, (now.get("name"), now.get("model"), now.get("base_url"))))
    context.say(f"from now on answered by {answers}, in every later chat as well")

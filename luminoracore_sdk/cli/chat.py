"""``luminora chat``: one message, or a conversation line by line."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.application.exchange_fields import placed, read_json
from luminoracore_sdk.cli.command import error_line
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.render import display, printable
from luminoracore_sdk.cli.sessions import message_text_of, print_memory
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["chat"]

HELP = """\
/memory               what is remembered
/remember KEY VALUE   remember something
/forget KEY           forget it
/history              the conversation so far
/quit                 leave; so does Ctrl-D
//TEXT                send a message that begins with /"""

MessageArgument = Annotated[
    str | None,
    typer.Argument(metavar="[MESSAGE]", help="Without one: line by line, from the keyboard or a pipe."),
]
SessionOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Resume this session.", show_default=False)
]
CreateOption = Annotated[
    bool, typer.Option("--create", help="Begin the session of --session if there is none.")
]
ProviderOption = Annotated[
    str | None, typer.Option(help="Who answers: openai, anthropic, ollama … [default: echo, offline]")
]
ModelOption = Annotated[str | None, typer.Option(show_default=False, help="Of the provider.")]
BaseUrlOption = Annotated[
    str | None, typer.Option(show_default=False, help="Of a server that speaks the provider's protocol.")
]
PersonalityOption = Annotated[
    Path | None, typer.Option(metavar="FILE", show_default=False, help="A JSON object.")
]
SystemOption = Annotated[str | None, typer.Option(show_default=False, help="The system prompt.")]
UserOption = Annotated[str | None, typer.Option(show_default=False, help="Whose session it is.")]
RememberOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", show_default=False, help="Remember this first; may be repeated."),
]


@attrs.frozen(kw_only=True)
class NewSession:
    """What a new session is made of; None: the user did not say."""

    provider: str | None
    model: str | None
    base_url: str | None
    personality: Path | None
    system: str | None
    user: str | None

    def provider_config(self) -> JSONObject:
        """Return the provider_config."""
        given = {"name": self.provider or "echo", "model": self.model, "base_url": self.base_url}
        return {name: value for name, value in given.items() if value is not None}

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
    desk: Desk,
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
    """Talk. Keys come from the environment only: OPENAI_API_KEY, ANTHROPIC_API_KEY, and so on."""
    facts = [_fact(text) for text in remember or []]
    wanted = NewSession(
        provider=provider,
        model=model,
        base_url=base_url,
        personality=personality,
        system=system,
        user=user,
    )
    talk = Talk(desk, desk.run(_session(desk, session, wanted, create=create)))
    for key, value in facts:
        talk.remember(key, value)
    talk.greet()
    if message is not None:
        talk.say(message)
    else:
        talk.loop()


def _fact(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"--remember takes KEY=VALUE, not {text!r}")
    return key, value


async def _session(desk: Desk, session_id: str | None, wanted: NewSession, *, create: bool) -> str:
    """Resume or begin a session; returns its id."""
    found = None if session_id is None else await desk.manager.get_session(session_id)
    if session_id is not None and found is None and not create:
        desk.say("to begin a session under an id of your own, add --create")
        raise SessionNotFoundError(session_id, backend=desk.storage.backend)
    if found is None:
        config = {"session_id": session_id, "user_id": wanted.user}
        session_id = await desk.manager.create_session(
            wanted.personality_data(), wanted.provider_config(), config
        )
        desk.say(f"new session {session_id}")
        return session_id
    if wanted.personality or wanted.system is not None or wanted.user:
        raise typer.BadParameter("--personality, --system and --user are for a new session")
    if wanted.provider or wanted.model or wanted.base_url:
        name = wanted.provider or (found.provider or {}).get("name")
        config = {**wanted.provider_config(), "name": name}
        await desk.manager.load_session(found.session_id, provider_config=config)
    desk.say(f"resumed session {found.session_id}, {found.message_count} messages")
    return found.session_id


class Talk:
    """One session at the keyboard or on a pipe.

    Args:
        desk: Store and outputs.
        session_id: An existing session.
    """

    def __init__(self, desk: Desk, session_id: str) -> None:
        self._desk = desk
        self._id = session_id
        self._at_keyboard = sys.stdin.isatty() and desk.err.is_terminal

    def greet(self) -> None:
        """Tell what is remembered."""
        entries = self._desk.run(self._desk.manager.memory_manager.list_entries(self._id))
        for entry in entries:
            self._desk.say(f"remembers {entry.key}: {display(entry.value)}")

    def loop(self) -> None:
        """Take line after line, each a message or a command, until the end of input."""
        if self._at_keyboard:
            self._desk.say("/help shows the commands")
        for line in self._lines():
            if line.startswith("/") and not line.startswith("//"):
                if line.split()[0] in {"/quit", "/exit"}:
                    break
                self._obey(line)
            else:
                self._take(line.removeprefix("/") if line.startswith("//") else line)
        self._desk.say(f"resume with: luminora chat --session {shlex.quote(self._id)}")

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
        """Send a line; at the keyboard a provider's failure is told and the conversation goes on."""
        try:
            self.say(line)
        except ProviderError as exc:
            if not self._at_keyboard:
                raise
            self._desk.say(f"luminora: {error_line(exc)}")

    def say(self, text: str) -> None:
        """Send a message and write the answer as it comes."""
        self._desk.run(self._stream(text))

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

"""``luminora chat``: send one message, or chat line by line."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.fields import placed
from luminoracore_sdk.application.exchange.raw_json import read_json
from luminoracore_sdk.cli.answers import AnswerView, MarkdownAnswer, NoAnswer, PlainAnswer
from luminoracore_sdk.cli.context import STOPPED, CommandContext, error_line, not_empty
from luminoracore_sdk.cli.output import amount, display, printable
from luminoracore_sdk.cli.sessions import message_text_of, print_memory
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.session import Session

__all__ = ["chat", "usage_line"]

_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP


def chat(
    context: CommandContext,
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="[MESSAGE]",
            callback=not_empty,
            help="Without it, messages are read from the keyboard, or line by line from a pipe.",
        ),
    ] = None,
    *,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Resume this session.", show_default=False)] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the session of --session if it is missing.")] = False,
    provider: Annotated[
        str | None, typer.Option(help="Model provider: openai, anthropic, ollama … [default: echo, offline]")
    ] = None,
    model: Annotated[str | None, typer.Option(show_default=False, help="Model of the provider.")] = None,
    base_url: Annotated[
        str | None, typer.Option(show_default=False, help="URL of a server with the provider's protocol.")
    ] = None,
    personality: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="File with a JSON object.")
    ] = None,
    system: Annotated[str | None, typer.Option(show_default=False, help="System prompt.")] = None,
    user: Annotated[str | None, typer.Option(show_default=False, help="User id.")] = None,
    remember: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", show_default=False, help="Store a memory first; may be repeated."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Show answers as they are, without rendering Markdown.")
    ] = False,
    no_history: Annotated[bool, typer.Option("--no-history", help="Keep no history of typed lines.")] = False,
) -> None:
    """Start or resume a session and chat. Keys come from the environment: OPENAI_API_KEY, ANTHROPIC_API_KEY …."""
    memories = [_memory(text) for text in remember or []]
    if create and session is None:
        raise typer.BadParameter("--create needs --session ID; omit --create to get a generated id")
    wanted = _Wanted(
        provider=provider,
        model=model,
        base_url=base_url,
        personality=personality,
        system=system,
        user=user,
    )
    context.open(creates=create or session is None)
    session_id, is_new = context.run(_session(context, session, wanted, create=create))
    repl = ChatRepl(context, session_id, is_plain=plain, keeps_history=not no_history)
    try:
        with repl.ending_with_process():
            for key, value in memories:
                repl.remember(key, value)
            repl.greet()
            if message is None:
                repl.loop()
            else:
                repl.send_once(message)
    except BaseException:
        if is_new:
            context.run(_delete_empty(context, session_id, with_memories=message is not None))
        raise
    if is_new and context.run(_delete_empty(context, session_id)):
        return
    if message is None:
        repl.say_how_to_resume()


def _memory(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"--remember takes KEY=VALUE, not {text!r}")
    return key, value


@attrs.frozen(kw_only=True)
class _Wanted:
    """The options that describe a session; None: not given."""

    provider: str | None
    model: str | None
    base_url: str | None
    personality: Path | None
    system: str | None
    user: str | None

    def provider_config(self, stored: JSONObject) -> JSONObject:
        """Return the provider_config: the options, over what is stored for the same provider."""
        options = {"name": self.provider, "model": self.model, "base_url": self.base_url}
        given = {name: value for name, value in options.items() if value is not None}
        return {**stored, **given} if self.provider in (None, stored.get("name")) else given

    def personality_data(self) -> JSONObject:
        """Return the personality of the file, with the system prompt of the option.

        Raises:
            ValidationError: The file does not hold a JSON object.
        """
        data: JSONValue = {}
        if self.personality is not None:
            with placed(str(self.personality)):
                data = read_json(self.personality.read_bytes())
        if not isinstance(data, dict):
            raise ValidationError(f"{self.personality}: a personality must be a JSON object")
        return data if self.system is None else {**data, "system_prompt": self.system}


async def _session(
    context: CommandContext, session_id: str | None, wanted: _Wanted, *, create: bool
) -> tuple[str, bool]:
    """Resume or create a session; return its id and whether it is new."""
    found = None if session_id is None else await context.manager.get_session(session_id)
    if session_id is not None and found is None and not create:
        context.say("use --create to create a session with this id")
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    if found is None:
        config = {"session_id": session_id, "user_id": wanted.user}
        provider = wanted.provider_config({"name": "echo"})
        session_id = await context.manager.create_session(wanted.personality_data(), provider, config)
        context.say(f"new session {session_id}")
        return session_id, True
    if wanted.personality or wanted.system is not None or wanted.user:
        raise typer.BadParameter("--personality, --system and --user can only be given for a new session")
    context.say(f"resumed session {found.session_id}, {amount(found.message_count, 'message')}")
    await _change_provider(context, found, wanted)
    return found.session_id, False


async def _change_provider(context: CommandContext, session: Session, wanted: _Wanted) -> None:
    """Store another provider, model or base URL, if an option names one."""
    stored = session.provider or {}
    config = wanted.provider_config(stored)
    if config == stored:
        return
    await context.manager.update_provider(session.session_id, config)
    changed = await context.manager.get_session(session.session_id)
    current = (changed and changed.provider) or config
    names = " ".join(filter(None, (current.get("name"), current.get("model"), current.get("base_url"))))
    context.say(f"the session now uses {names}, and will in later chats")


async def _delete_empty(context: CommandContext, session_id: str, *, with_memories: bool = False) -> bool:
    """Delete a new session without messages, and without memories unless these do not count; return whether it was."""
    record = await context.storage.find_session(session_id)
    if record is None or record.last_position:
        return False
    if not with_memories and await context.manager.memory_manager.list_entries(session_id):
        return False
    await context.manager.delete_session(session_id)
    context.say(f"deleted the new session {session_id}: it has no messages")
    return True


COMMANDS = {
    "/help": "/help                 show this list",
    "/memory": "/memory               list the memories",
    "/remember": "/remember KEY VALUE   store a memory",
    "/forget": "/forget KEY           delete a memory",
    "/history": "/history              show the conversation",
    "/quit": "/quit                 quit; Ctrl-D does the same",
}
HELP = "\n".join([*COMMANDS.values(), "//TEXT                send a message that begins with /"])


class ChatRepl:
    """Chat in one session, with lines from the keyboard or a pipe.

    Args:
        context: Store and outputs.
        session_id: An existing session.
        is_plain: Whether Markdown is shown as it is.
        keeps_history: Whether lines typed at the keyboard are kept for later chats.
    """

    def __init__(
        self, context: CommandContext, session_id: str, *, is_plain: bool = False, keeps_history: bool = True
    ) -> None:
        self._context = context
        self._id = session_id
        self._at_keyboard = context.is_at_keyboard
        self._is_plain = is_plain
        self._keeps_history = keeps_history
        self._position = 0
        self._thinking = False
        self._is_ending = False

    @contextmanager
    def ending_with_process(self) -> Iterator[None]:
        """Let SIGTERM, or the end of the terminal, end the chat within the block as Ctrl-C at an empty prompt does.

        A signal that this process was started to ignore (``nohup``) stays ignored.
        """

        def end(number: int, _: object) -> None:
            self._is_ending = True
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
            signal.raise_signal(signal.SIGINT)

        heeds_ctrl_c = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        caught = [one for one in _ENDS if heeds_ctrl_c and signal.getsignal(one) is signal.SIG_DFL]
        for number in caught:
            signal.signal(number, end)
        try:
            yield
        finally:
            for number in caught:
                signal.signal(number, signal.SIG_DFL)

    def greet(self) -> None:
        """Show the memories."""
        for entry in self._context.run(self._context.manager.memory_manager.list_entries(self._id)):
            self._context.say(f"remembers {entry.key}: {display(entry.value)}")

    def say_how_to_resume(self) -> None:
        """Show the command that resumes the session."""
        self._context.say(f"resume with: luminora chat --session {shlex.quote(self._id)}")

    def loop(self) -> None:
        """Send lines and run commands until the end of input.

        Raises:
            typer.Exit: With 130 after Ctrl-C at an empty prompt or, with a pipe, anywhere; or when the chat is ended.
        """
        if self._at_keyboard:
            self._context.say("/help shows the commands")
        try:
            for line in self._lines():
                if not line.startswith("/"):
                    self._send(line)
                elif line.startswith("//"):
                    self._send(line.removeprefix("/"))
                elif line.split()[0] in {"/quit", "/exit"}:
                    break
                else:
                    self._command(line)
        except KeyboardInterrupt as exc:
            self._context.say("")
            if self._context.run(self._last_position()):
                self.say_how_to_resume()
            raise typer.Exit(STOPPED) from exc

    def _lines(self) -> Iterator[str]:
        if not self._at_keyboard:
            yield from filter(None, (line.strip() for line in iter(_line_of_stdin, "")))
            return
        read = self._reader()
        while True:
            try:
                line = read().strip()
            except EOFError:
                self._context.say("")
                return
            if line:
                yield line

    def _reader(self) -> Callable[[], str]:
        """Return the function that reads a line, with an editor if the terminal can move its cursor."""
        if self._context.err.is_dumb_terminal:
            return self._plain_line
        import_extra("prompt_toolkit", needed_by="luminora chat at the keyboard", extra="cli")
        from luminoracore_sdk.cli.keyboard import Keyboard, history_file  # noqa: PLC0415  # takes 0.1 s to import

        history: Path | None = None
        if self._keeps_history:
            try:
                history = history_file()
            except OSError as exc:
                self._context.say(f"no history is kept: {error_line(exc)}")
        return Keyboard(COMMANDS, history, is_ending=lambda: self._is_ending).read

    def _plain_line(self) -> str:
        """Return a line; ``input`` would take milliseconds to begin, and forget a signal that comes meanwhile."""
        self._context.err.print("[bold]you>[/] ", end="")
        if line := _line_of_stdin():
            return line
        raise EOFError

    # -- messages --------------------------------------------------------------------------------

    def _send(self, line: str) -> None:
        """Send a line; at the keyboard, a failure or Ctrl-C does not end the chat."""
        try:
            self.send(line)
        except KeyboardInterrupt:
            self.report_stop()
            if self._is_ending or not self._at_keyboard:
                raise
        except (ProviderError, ValidationError) as exc:
            self._report_or_raise(exc)

    def _report_or_raise(self, error: Exception) -> None:
        if not self._at_keyboard:
            raise error
        self._context.say(f"luminora: {error_line(error)}")

    def send_once(self, text: str) -> None:
        """Send the only message of a chat.

        Raises:
            typer.Exit: With 130 after Ctrl-C.
        """
        try:
            self.send(text)
        except KeyboardInterrupt as exc:
            self.report_stop()
            raise typer.Exit(STOPPED) from exc

    def send(self, text: str) -> None:
        """Send a message and write the answer while it arrives."""
        self._position = self._context.run(self._last_position())
        self._context.run(self._stream(text))

    def report_stop(self) -> None:
        """Say whether the turn that Ctrl-C stopped was saved."""
        is_saved = self._context.run(self._last_position()) > self._position
        self._context.say(f"\nstopped; {'what came was saved' if is_saved else 'the turn was not saved'}")

    async def _last_position(self) -> int:
        record = await self._context.storage.find_session(self._id)
        return 0 if record is None else record.last_position

    async def _stream(self, text: str) -> None:
        contents: list[str] = []
        thoughts: list[str] = []
        last = ChatResponse("")
        view = self._view()
        stream = self._context.manager.stream_message(self._id, text, on_stop="keep_partial")
        try:
            async with aclosing(stream) as deltas:
                async for last in deltas:
                    thoughts += filter(None, [last.reasoning])
                    contents += filter(None, [last.content])
                    self._show(last, view, begins=len(contents) == 1)
        except BaseException:
            if contents:
                view.finish()
            raise
        if self._context.options.as_json:
            answer = {**last.to_dict(), "content": "".join(contents)}
            if thoughts:
                answer["reasoning"] = "".join(thoughts)
            self._context.write_json({"session_id": self._id, **answer})
            return
        view.finish()
        for call in last.tool_calls:
            function = call["function"]
            self._context.say(printable(f"calls {function['name']}({function['arguments']})"))
        if self._at_keyboard and last.usage:
            self._dim(usage_line(last.usage) + "\n")

    def _view(self) -> AnswerView:
        out = self._context.out
        if self._context.options.as_json:
            return NoAnswer()
        renders = self._at_keyboard and out.is_terminal and not out.is_dumb_terminal and not self._is_plain
        return MarkdownAnswer(out) if renders else PlainAnswer(out)

    def _show(self, delta: ChatResponse, view: AnswerView, *, begins: bool) -> None:
        """Show the text of a delta, its reasoning dimmed on stderr."""
        if self._context.options.as_json:
            return
        if delta.reasoning:
            view.pause()
            self._dim(printable(delta.reasoning))
        if delta.content:
            if begins and self._thinking:
                self._dim("\n")
            view.add(delta.content)
        self._thinking = bool(delta.reasoning) or (self._thinking and not delta.content)

    def _dim(self, text: str) -> None:
        self._context.err.print(text, style="dim", end="", markup=False, highlight=False, soft_wrap=True)

    # -- commands --------------------------------------------------------------------------------

    def _command(self, line: str) -> None:
        """Run a command; at the keyboard, a value that is refused does not end the chat."""
        try:
            self._run_command(line)
        except ValidationError as exc:
            self._report_or_raise(exc)

    def _run_command(self, line: str) -> None:
        match line.split(maxsplit=2):
            case ["/memory"]:
                self._show_memory()
            case ["/remember", key, value]:
                self.remember(key, value)
            case ["/forget", key]:
                if not self._context.run(self._context.manager.memory_manager.delete_memory(self._id, key)):
                    self._context.say(f"there is no memory {key}")
            case ["/history"]:
                self._context.run(self._show_history())
            case ["/help", *_]:
                self._context.say(HELP)
            case [name, *_] if name in COMMANDS:
                self._context.say(f"write: {COMMANDS[name]}")
            case [name, *_]:
                known = " ".join(COMMANDS)
                self._context.say(f"unknown command {name}; known: {known}; //TEXT sends a message that begins with /")

    def remember(self, key: str, value: JSONValue) -> None:
        """Store a memory."""
        self._context.run(self._context.manager.memory_manager.store_memory(self._id, key, value))

    def _show_memory(self) -> None:
        entries = self._context.run(self._context.manager.memory_manager.list_entries(self._id))
        if self._context.options.as_json:
            self._context.write_json([entry.to_dict() for entry in entries])
        elif entries:
            print_memory(self._context, entries)
        else:
            self._context.say("no memories")

    async def _show_history(self) -> None:
        async for message in self._context.manager.conversation_manager.stream_messages(self._id):
            if self._context.options.as_json:
                self._context.write_json(message.to_dict())
            else:
                self._context.out.print(message_text_of(message), soft_wrap=True)


def _line_of_stdin() -> str:
    """Return the next line; empty: there is none."""
    try:
        return sys.stdin.readline()
    except UnicodeDecodeError as exc:
        raise ValidationError("stdin: not UTF-8") from exc


def usage_line(usage: JSONObject) -> str:
    """Return the token counts of an answer in one line, as OpenAI or Anthropic names them."""
    names = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    sent, received = (next((usage[name] for name in pair if name in usage), "?") for pair in names)
    return f"{sent} tokens in, {received} out"

"""One session at the keyboard or on a pipe: messages, commands, Ctrl-C."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import aclosing

import typer

from luminoracore_sdk.cli.command import STOPPED, error_line
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.render import display, printable
from luminoracore_sdk.cli.sessions import message_text_of, print_memory
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderError, ValidationError
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["Talk"]

HELP = """\
/help                 this list
/memory               what is remembered
/remember KEY VALUE   remember something
/forget KEY           forget it
/history              the conversation so far
/quit                 leave; so does Ctrl-D
//TEXT                send a message that begins with /"""


class Talk:
    """One session at the keyboard or on a pipe.

    Args:
        desk: Store and outputs.
        session_id: An existing session.
    """

    def __init__(self, desk: Desk, session_id: str) -> None:
        self._desk = desk
        self._id = session_id
        self._at_keyboard = desk.is_at_keyboard
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

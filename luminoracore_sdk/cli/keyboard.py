"""Lines typed at the keyboard: editing, history, completion of commands, pastes of several lines."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

__all__ = ["Keyboard", "history_file"]


def history_file() -> Path:
    """Return the file with the lines of earlier chats, which only its owner can read; create it if it is missing.

    Raises:
        OSError: It cannot be created.
    """
    path = Path(platformdirs.user_state_dir("luminora", appauthor=False)) / "chat_history"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path


class _Commands(Completer):
    """Completes a command at the beginning of a line."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """Yield the commands that begin as the text does."""
        text = document.text_before_cursor
        if text.startswith("/"):
            yield from (Completion(name, -len(text)) for name in self._names if name.startswith(text))


class Keyboard:
    """Reads lines with an editor; the prompt is written to stderr.

    Args:
        commands: What is completed.
        history: File with earlier lines; None: those of this chat only.
        is_ending: Whether Ctrl-C is also to end a line that is not empty.
    """

    def __init__(self, commands: Iterable[str], history: Path | None, *, is_ending: Callable[[], bool]) -> None:
        self._is_ending = is_ending
        earlier: History = InMemoryHistory() if history is None else FileHistory(str(history))
        keys = KeyBindings()
        keys.add("escape", "enter")(_add_line)
        self._session: PromptSession[str] = PromptSession(
            FormattedText([("bold", "you> ")]),
            completer=_Commands(commands),
            complete_while_typing=False,
            history=earlier,
            key_bindings=keys,
            output=create_output(stdout=sys.stderr),
            prompt_continuation=FormattedText([("", "...> ")]),
        )

    def read(self) -> str:
        """Return the next line; a paste of several lines is one, and Alt-Enter begins a further one.

        Ctrl-C in a line discards it.

        Raises:
            EOFError: Ctrl-D in an empty line, or the terminal is gone.
            KeyboardInterrupt: Ctrl-C in an empty line, or the chat is ending.
        """
        while True:
            try:
                return self._session.prompt()
            except KeyboardInterrupt:
                if self._is_ending() or not self._session.default_buffer.text:
                    raise


def _add_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")

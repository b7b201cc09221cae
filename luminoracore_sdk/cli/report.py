"""``luminora optimize report``: the size of a store, compared with JSON."""

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.wrappers.current_encoding import backend_of
from luminoracore_sdk.application.maintenance.measure import SessionFigures, StoreFigures
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.prompt_tokens import PromptTokens
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.cli.context import FAILED, CommandContext
from luminoracore_sdk.cli.output import amount, print_table, progress_bar, share
from luminoracore_sdk.cli.report_chart import ENDINGS, Bar, Panel, Picture
from luminoracore_sdk.cli.stores import compressing, count_sessions
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["report"]

_SHOWN = 20
_DRAWN = 12
_SPARE = ("tokens as JSON", "bytes as JSON", "msgs")
_OWN = "(the store's own records)"


def _picture(value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"the name of a picture must end with {' or '.join(ENDINGS)}")
    return value


def report(
    context: CommandContext,
    *,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Number of sessions to show, the largest first. [default: 20, with --json all]"),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Only sessions with this tag.", show_default=False)] = None,
    no_tokens: Annotated[bool, typer.Option("--no-tokens", help="Count only bytes.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also draw a chart: FILE.svg or FILE.png.", show_default=False, callback=_picture
        ),
    ] = None,
) -> None:
    """Show the size of sessions: bytes as JSON and as stored, tokens as JSON and in the prompt."""
    store = compressing(context.container.settings().storage)
    drawing = None if picture is None else Picture(picture)
    services = None if no_tokens else context.services
    kept = limit or (None if context.options.as_json else _SHOWN)
    measured = _Measured(kept=None if kept is None else max(kept, _DRAWN))
    context.run(_measure(context, store, services, SessionQuery(user_id=user, tag=tag), measured))
    largest = measured.largest
    if context.options.as_json:
        context.write_json(_as_json(measured, largest[:kept], services))
    elif measured.sessions:
        _print(context, measured, largest[:kept], has_tokens=services is not None)
    for note in _notes(measured, len(largest[:kept]), services):
        context.say(note)
    if drawing is not None and largest:
        heading = f"{amount(measured.sessions, 'session')} of {context.store_name}"
        drawing.draw(heading, _panels(measured, largest[: min(_DRAWN, kept or _DRAWN)], services))
        context.say(f"wrote {picture}")
    if measured.unreadable:
        raise typer.Exit(FAILED)


# -- measuring -----------------------------------------------------------------------------------


@attrs.define
class _Measured:
    """Sums, and the figures of the largest sessions.

    Attributes:
        kept: Number of sessions to keep; None: all.
        own_bytes: Stored bytes of the store's own records; counted without a filter only.
        tokens: None: not counted.
    """

    kept: int | None
    sessions: int = 0
    messages: int = 0
    memories: int = 0
    json_bytes: int = 0
    session_bytes: int = 0
    own_bytes: int = 0
    tokens: PromptTokens | None = None
    unreadable: list[JSONObject] = attrs.field(factory=list)
    _large: list[SessionFigures] = attrs.field(factory=list, init=False)

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of everything."""
        return self.session_bytes + self.own_bytes

    @property
    def largest(self) -> list[SessionFigures]:
        """The sessions with the most stored bytes, the largest first."""
        self._large.sort(key=lambda one: one.stored_bytes, reverse=True)
        return self._large[: self.kept]

    def count(self, one: SessionFigures) -> None:
        """Add a session."""
        if one.reason is not None:
            self.unreadable.append({"session_id": one.session_id, "reason": one.reason})
            return
        self.sessions += 1
        self.messages += one.messages
        self.memories += one.memories
        self.json_bytes += one.json_bytes
        self.session_bytes += one.stored_bytes
        self.tokens = _sum(self.tokens, one.tokens)
        self._large.append(one)
        if self.kept is not None and len(self._large) > 2 * self.kept:  # constant memory, few sorts
            self._large = self.largest


def _sum(one: PromptTokens | None, other: PromptTokens | None) -> PromptTokens | None:
    if one is None or other is None:
        return one or other
    fields = attrs.asdict(other)
    return PromptTokens(**{name: count + fields[name] for name, count in attrs.asdict(one).items()})


async def _measure(
    context: CommandContext,
    store: StorageConfig,
    services: Services | None,
    query: SessionQuery,
    measured: _Measured,
) -> None:
    async with create_storage(store) as storage:
        figures = StoreFigures(storage, backend_of(storage), values=JsonCodec(), services=services)
        with progress_bar(context.err, quiet=False) as bar:
            total = await count_sessions(storage, query) if context.err.is_terminal else None
            task = bar.add_task("measuring", total=total)
            async with aclosing(figures.run(query)) as results:
                async for one in results:
                    measured.count(one)
                    if one.reason is not None:
                        context.say(f"session {one.session_id!a}: {one.reason}")
                    bar.update(task, advance=1)
        if query == SessionQuery():
            measured.own_bytes = await figures.own_bytes()


# -- output --------------------------------------------------------------------------------------


def _as_json(measured: _Measured, shown: Sequence[SessionFigures], services: Services | None) -> JSONObject:
    names = ("sessions", "messages", "memories", "json_bytes", "stored_bytes")
    tokens = measured.tokens and attrs.asdict(measured.tokens)
    unasked = attrs.filters.exclude("reason")
    return {
        "token_counter": services and _counter_name(services),
        "sessions": [attrs.asdict(one, filter=unasked) for one in shown],
        "own_bytes": measured.own_bytes,
        "total": {**{name: getattr(measured, name) for name in names}, "tokens": tokens},
        "unreadable": measured.unreadable,
    }


def _print(context: CommandContext, measured: _Measured, shown: Sequence[SessionFigures], *, has_tokens: bool) -> None:
    columns = ["session", "msgs", "bytes as JSON", "bytes stored"]
    rows = [[one.session_id, *_cells(one, has_tokens=has_tokens)] for one in shown]
    if measured.own_bytes:
        rows.append([_OWN, "", "", f"{measured.own_bytes:,}", *[""] * (2 * has_tokens)])
    rows.append([f"total: {amount(measured.sessions, 'session')}", *_cells(measured, has_tokens=has_tokens)])
    if has_tokens:
        columns += ["tokens as JSON", "tokens in the prompt"]
    print_table(context.out, columns, rows, whole=columns, spare=_SPARE)


def _cells(one: SessionFigures | _Measured, *, has_tokens: bool) -> list[str]:
    bytes_ = [f"{one.messages:,}", f"{one.json_bytes:,}", share(one.stored_bytes, one.json_bytes)]
    if not has_tokens:
        return bytes_
    if one.tokens is None:
        return [*bytes_, "", ""]
    as_json = one.tokens.context_json
    return [*bytes_, f"{as_json:,}", share(one.tokens.context, as_json)]


def _notes(measured: _Measured, shown: int, services: Services | None) -> list[str]:
    notes = []
    if not (measured.sessions or measured.unreadable):
        return ["no sessions"]
    if shown < measured.sessions:
        notes.append(f"there are more than {shown} sessions; use --limit to show more")
    if services is not None and measured.tokens is not None:
        notes.append(f"tokens: {_counter_name(services)}")
    if measured.unreadable:
        notes.append(f"{amount(len(measured.unreadable), 'session')} not readable, not counted")
    return notes


def _counter_name(services: Services) -> str:
    """Return the name of the encoding whose tokens are counted."""
    encoding: Any = getattr(services.tokens, "encoding", None)
    return encoding if isinstance(encoding, str) else "estimated; install the extra `tokens` for exact counts"


def _panels(measured: _Measured, shown: Sequence[SessionFigures], services: Services | None) -> list[Panel]:
    what = "total"
    many = f"the {len(shown)} largest of {amount(measured.sessions, 'session')}"
    caption = "by session" if len(shown) == measured.sessions else many
    panels = [
        Panel(
            title="Bytes in the store",
            before="as compact JSON",
            after="as stored",
            total=Bar(what, measured.json_bytes, measured.stored_bytes),
            sessions=[Bar(one.session_id, one.json_bytes, one.stored_bytes) for one in shown],
            shown=caption,
        )
    ]
    if services is not None and measured.tokens is not None:
        panels.append(
            Panel(
                title=f"Tokens ({_counter_name(services).partition(';')[0]})",
                before="as compact JSON",
                after="as the prompt writes it",
                total=_token_bar(what, measured.tokens),
                sessions=[_token_bar(one.session_id, one.tokens) for one in shown],
                shown=caption,
            )
        )
    return panels


def _token_bar(name: str, tokens: PromptTokens | None) -> Bar:
    return Bar(name, 0, 0) if tokens is None else Bar(name, tokens.context_json, tokens.context)

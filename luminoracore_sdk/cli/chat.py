"""``luminora chat``: one message, or a conversation line by line."""

from pathlib import Path
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.application.exchange_fields import placed, read_json
from luminoracore_sdk.cli.command import STOPPED, not_empty
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.render import amount
from luminoracore_sdk.cli.talk import Talk
from luminoracore_sdk.domain.errors import SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.session import Session

__all__ = ["chat"]

MessageArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MESSAGE]",
        callback=not_empty,
        help="Without one: line by line, from the keyboard or a pipe.",
    ),
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
    desk.open(makes=create or session is None)
    session_id, is_new = desk.run(_session(desk, session, wanted, create=create))
    talk = Talk(desk, session_id)
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
            desk.run(_leave_nothing(desk, session_id))
        raise


def _say_once(talk: Talk, message: str) -> None:
    try:
        talk.say(message)
    except KeyboardInterrupt as exc:
        talk.tell_stopped()
        raise typer.Exit(STOPPED) from exc


async def _leave_nothing(desk: Desk, session_id: str) -> None:
    """Delete a session that was made for one message and did not get it."""
    record = await desk.storage.find_session(session_id)
    if record is not None and record.last_position == 0:
        await desk.manager.delete_session(session_id)
        desk.say(f"the new session {session_id} was deleted: it has no message")


def _fact(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"--remember takes KEY=VALUE, not {text!r}")
    return key, value


async def _session(desk: Desk, session_id: str | None, wanted: Wanted, *, create: bool) -> tuple[str, bool]:
    """Resume or begin a session; returns its id and whether it is new."""
    found = None if session_id is None else await desk.manager.get_session(session_id)
    if session_id is not None and found is None and not create:
        desk.say("to begin a session under an id of your own, add --create")
        raise SessionNotFoundError(session_id, backend=desk.storage.backend)
    if found is None:
        config = {"session_id": session_id, "user_id": wanted.user}
        provider = wanted.provider_config({"name": "echo"})
        session_id = await desk.manager.create_session(wanted.personality_data(), provider, config)
        desk.say(f"new session {session_id}")
        return session_id, True
    if wanted.personality or wanted.system is not None or wanted.user:
        raise typer.BadParameter("--personality, --system and --user are for a new session")
    desk.say(f"resumed session {found.session_id}, {amount(found.message_count, 'message')}")
    await _change_provider(desk, found, wanted)
    return found.session_id, False


async def _change_provider(desk: Desk, session: Session, wanted: Wanted) -> None:
    """Store another provider, model or base URL, if the user named one."""
    stored = session.provider or {}
    config = wanted.provider_config(stored)
    if config == stored:
        return
    await desk.manager.update_provider(session.session_id, config)
    changed = await desk.manager.get_session(session.session_id)
    now = (changed and changed.provider) or config
    answers = " ".join(filter(None, (now.get("name"), now.get("model"), now.get("base_url"))))
    desk.say(f"from now on answered by {answers}, in every later chat as well")

"""Structured output: an answer that is parsed and validated, and repaired once if it does not fit."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Generic, TypeVar

import attrs

from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.application.sessions import Sessions
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import StructuredOutputError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = ["OutputKind", "StructuredResponse", "send_structured"]

T = TypeVar("T")

_REPAIR = """\
Your last answer is not valid: {reason}
Answer again with the whole JSON object and nothing else."""

_INSTRUCTION = """\
Answer with one JSON object and nothing else. It must be valid under this JSON schema:
{schema}"""


@attrs.frozen(kw_only=True)
class OutputKind(Generic[T]):
    """The form that an answer must have.

    Attributes:
        name: Its name, for the provider and for errors.
        schema: Its JSON schema.
        strict: Whether the schema has the form that OpenAI's strict mode requires.
        parse: Returns the value of an answer's text; raises ValueError, which says what does not fit.
    """

    name: str
    schema: JSONObject
    strict: bool
    parse: Callable[[str], T]

    def response_format(self) -> JSONObject:
        """Return what the provider is sent, in OpenAI's form."""
        schema: JSONObject = {"name": self.name, "schema": self.schema, "strict": self.strict}
        return {"type": "json_schema", "json_schema": schema}


@attrs.frozen
class StructuredResponse(Generic[T]):
    """An answer and its value.

    Attributes:
        value: The parsed and validated answer.
        response: The answer itself.
    """

    value: T
    response: ChatResponse


async def send_structured(
    sessions: Sessions, session_id: str, message: Any, kind: OutputKind[T], *, repair: int, options: Mapping[str, Any]
) -> StructuredResponse[T]:
    """Send a message, and return its answer as a value.

    A provider that takes no JSON schema is sent it as text, which is not stored.

    Args:
        sessions: The manager.
        session_id: An existing session.
        message: What is sent, as by ``send_message``.
        kind: The form of the answer.
        repair: 1: an answer that does not fit is sent back once with what is wrong; 0: it is not.
        options: Further arguments of each send.

    Raises:
        StructuredOutputError: The last answer does not fit.
    """
    if repair not in {0, 1}:
        raise ValidationError(f"repair is 0 or 1, not {repair!r}")
    sent = dict(options)
    rules = await sessions.provider_rules(session_id, provider_config=sent.get("provider_config"))
    if rules.json_schema:
        sent["response_format"] = kind.response_format()
    else:
        instruction = _INSTRUCTION.format(schema=compact_json(kind.schema))
        sent["context"] = "\n\n".join(filter(None, (sent.get("context"), instruction)))
    response = await sessions.send_message(session_id, message, **sent)
    try:
        return _parsed(kind, response)
    except StructuredOutputError as exc:
        if not repair or not _can_repair(response):
            raise
        text = _REPAIR.format(reason=exc.reason)
    # An id of its own makes the repair repeatable, like the message.
    key = sha256(compact_json([session_id, response.id]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    question = Message(MessageRole.USER, text, id=f"repair-{key}")
    return _parsed(kind, await sessions.send_message(session_id, question, **sent))


def _can_repair(response: ChatResponse) -> bool:
    """Whether another answer may be better: not after a refusal, and not at a limit that holds for it too."""
    return not response.refusal and response.finish_reason not in {"length", "content_filter"}


def _parsed(kind: OutputKind[T], response: ChatResponse) -> StructuredResponse[T]:
    if response.refusal:
        raise StructuredOutputError(kind.name, "the model refused to answer", response)
    try:
        return StructuredResponse(kind.parse(response.content), response)
    except ValueError as exc:
        reason = "it was cut off at max_tokens" if response.finish_reason == "length" else str(exc)
        raise StructuredOutputError(kind.name, reason, response) from exc

"""Every outgoing prompt has a form that pydantic-ai takes."""

import pytest
from hypothesis import given

from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.outgoing import build_outgoing
from luminoracore_sdk.domain.vendors import rules_of
from tests.property.test_outgoing import histories

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic_ai import messages as ai

from luminoracore_sdk.adapters.providers.vendor_messages import history


@pytest.mark.parametrize("vendor", ["pydantic-ai:google", "pydantic-ai:mistral", "pydantic-ai:cohere"])
def test_every_prompt_alternates_and_answers_its_calls(vendor: str) -> None:
    @given(histories(pictures=False))
    def check(messages: list[Message]) -> None:
        sent = history(build_outgoing(messages, rules_of(vendor), provider="pydantic-ai"), vendor)
        kinds = [message.kind for message in sent]
        assert kinds == (["request", "response"] * len(sent))[: len(sent)]
        assert kinds[-1] == "request"
        for answer, request in zip(sent[1::2], sent[2::2], strict=True):
            calls = [part.tool_call_id for part in answer.parts if isinstance(part, ai.ToolCallPart)]
            results = [part.tool_call_id for part in request.parts if isinstance(part, ai.ToolReturnPart)]
            assert results == calls
            assert [part.part_kind for part in request.parts[: len(calls)]] == ["tool-return"] * len(calls)

    check()

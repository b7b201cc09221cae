from types import MappingProxyType
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import InvalidJSONError, ValidationError
from luminoracore_sdk.domain.personality import check_personality, merge_personality, personality_name, system_prompt


def test_a_personality_is_copied() -> None:
    given = {"name": "Ada", "traits": ["exact"]}
    copied = check_personality(MappingProxyType(given))
    given["traits"].append("changed")  # type: ignore[attr-defined]
    assert copied == {"name": "Ada", "traits": ["exact"]}


@pytest.mark.parametrize("value", [None, "Ada", ["Ada"], 5])
def test_a_value_that_is_not_an_object_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="a personality must be a JSON object"):
        check_personality(value)


def test_a_value_that_is_not_json_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidJSONError, match=r"personality\['age'\]"):
        check_personality({"age": float("nan")})


def test_a_merge_replaces_top_level_fields() -> None:
    current = {"name": "Ada", "tone": "dry", "persona": {"name": "A"}}
    merged = merge_personality(current, {"tone": "warm", "persona": {"role": "guide"}})
    assert merged == {"name": "Ada", "tone": "warm", "persona": {"role": "guide"}}
    assert current == {"name": "Ada", "tone": "dry", "persona": {"name": "A"}}
    with pytest.raises(ValidationError):
        merge_personality(current, ["tone"])


@pytest.mark.parametrize(
    ("personality", "name"),
    [
        ({"name": "Ada"}, "Ada"),
        ({"persona": {"name": "Ada"}}, "Ada"),
        ({"name": "Ada", "persona": {"name": "B"}}, "Ada"),
        ({"persona": "Ada"}, ""),
        ({"name": 5}, ""),
        ({}, ""),
    ],
)
def test_the_name_is_its_own_or_that_of_the_persona(personality: dict[str, Any], name: str) -> None:
    assert personality_name(personality) == name


def test_an_own_system_prompt_is_used_unchanged() -> None:
    assert system_prompt({"name": "Ada", "system_prompt": " Be brief. "}) == " Be brief. "


@pytest.mark.parametrize("own", ["", "  \n", None, 5])
def test_a_prompt_is_composed_if_there_is_none(own: object) -> None:
    assert system_prompt({"name": "Ada", "system_prompt": own}) == "You are Ada."


def test_a_prompt_is_composed_of_the_known_fields_in_order() -> None:
    personality = {
        "rules": ["Be kind", "", "Be brief"],
        "style": {"sentence_length": "short", "emoji": None},
        "name": "Ada",
        "description": " A mathematician. ",
        "background": 1815,
        "tone": True,
        "favourite_colour": "blue",
    }
    assert system_prompt(personality) == (
        "You are Ada.\nA mathematician.\nBackground: 1815\nStyle: sentence length: short\nRules: Be kind; Be brief"
    )


def test_top_level_fields_override_those_of_the_persona() -> None:
    personality = {"persona": {"name": "Ada", "role": "guide", "tone": "dry"}, "tone": "warm"}
    assert system_prompt(personality) == "You are Ada.\nYour role: guide\nTone: warm"


@pytest.mark.parametrize("personality", [{}, {"description": object()}, {"persona": 5}])
def test_an_empty_personality_gives_no_prompt(personality: dict[str, Any]) -> None:
    assert system_prompt(personality) == ""

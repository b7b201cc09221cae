"""Tables of the documentation say what the code says."""

import re
from pathlib import Path

from luminoracore_sdk.domain import personality

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_the_table_of_the_personality_has_every_field_in_the_order_of_the_prompt() -> None:
    _, _, section = PAGE.read_text().partition("\n## Personality\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+)`|none.*) \|$", section, re.MULTILINE)
    assert rows == list(personality._HEADINGS.items())

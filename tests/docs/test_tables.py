"""Tables of the documentation say what the code says."""

import re
from pathlib import Path

from luminoracore_sdk.domain import personality

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_the_personality_table_matches_the_prompt() -> None:
    _, _, section = PAGE.read_text().partition("\n## Personality\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+)`|none.*) \|$", section, re.MULTILINE)
    assert rows == list(personality._HEADINGS.items())

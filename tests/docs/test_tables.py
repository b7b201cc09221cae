"""Tables of the documentation agree with the code."""

import re
from pathlib import Path

from luminoracore_sdk.domain.personality import system_prompt

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_the_personality_table_matches_the_prompt() -> None:
    _, _, section = PAGE.read_text().partition("\n## Personality\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+)`|none.*) \|$", section, re.MULTILINE)
    lines = [f"{heading}: {field}" if heading else field for field, heading in rows]
    fields: list[str] = sorted(field for field, _ in rows)
    assert system_prompt({field: field for field in fields}).splitlines() == lines

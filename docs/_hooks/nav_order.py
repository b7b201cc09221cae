"""Puts the four parts of the documentation in order; inside a part, file names order the pages."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Navigation, Section

ORDER = ["Tutorial", "How to", "Reference", "Explanation"]


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Sort the sections; the start page comes first, and an unknown section is an error."""
    nav.items.sort(key=lambda item: ORDER.index(item.title) + 1 if isinstance(item, Section) else 0)
    return nav

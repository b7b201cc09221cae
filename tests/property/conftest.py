"""Property tests are not measured: coverage would double their time, and comes from the unit tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that pytest-cov pauses."""
    for item in items:
        if item.path.parent.name == "property":
            item.add_marker("no_cover")

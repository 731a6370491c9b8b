"""Time limit, order and groups of system tests, which start whole systems."""

from pathlib import Path
from typing import Final

import pytest

LIMIT_S = 400
SYSTEMS: Final = ("shared", "guarded")
"""Fixtures whose systems run until the suite ends. Each belongs to one process of the suite, which starts it once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test below this folder the limit, unless it has one, and a group, and let quiet ones run last.

    The tests of a group run in one process of the suite: those of a shared system, or of a file. When the quiet ones
    run, the other suites of `make test` have ended, and more of the machine is free.
    """
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: item.get_closest_marker("quiet") is not None)


def group_of(item: pytest.Item) -> str:
    """Return the shared system that a test uses, or else its file."""
    used = getattr(item, "fixturenames", ())
    return next((system for system in SYSTEMS if system in used), str(item.path))

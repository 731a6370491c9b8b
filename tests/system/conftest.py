"""Time limit of system tests, which start whole systems."""

from pathlib import Path

import pytest

LIMIT_S = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test below this folder the limit, unless it has one."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))

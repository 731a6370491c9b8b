"""Order of integration tests: registrations come first.

Their steps run behind all other processes of the machine. At the end of the suite they would run alone, one after the
other, while a core is idle.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the file with most registrations begin, then the others that register."""
    items.sort(key=lambda item: (item.path.name != "test_register.py", "registry" not in item.path.parts))

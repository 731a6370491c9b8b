"""Time limit, order and groups of system tests, which start whole systems."""

from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

LIMIT_S = 400
SYSTEMS: Final = ("shared", "pairs", "guarded")
"""Fixtures whose systems run until the suite ends. Each belongs to one process of the suite, which starts it once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test below this folder the limit, unless it has one, and let quiet ones run last.

    By then the other suites of `make test` have ended, and more of the machine is free.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
    items.sort(key=lambda item: item.get_closest_marker("quiet") is not None)


class SystemScheduling(LoadFileScheduling):
    """Scheduling of `pytest --dist=loadfile` that gives the files of a shared system to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        text = (self.config.rootpath / file).read_text()
        return next((system for system in SYSTEMS if f"{system}: Cli" in text), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SystemScheduling | None:
    """Schedule by shared systems and files where the suite runs by files."""
    return SystemScheduling(config, log) if config.getvalue("dist") == "loadfile" else None

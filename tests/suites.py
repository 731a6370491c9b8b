"""Pytest plugin for the suites. A test that needs more than Linux, make and Python has a marker that names the need.

`make test` runs `--suite=contract`, the tests without a need. `make test-all` runs these, then `--suite=needs`, the
others, after `make test-all-needs` has installed the needs. Tests that need torch run in an environment of their own.
"""

import os
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

NEEDS: Final = {
    "needs_torch": "torch, in .venv-torch",
    "needs_browser": "Chromium",
    "needs_prometheus": "prometheus and promtool",
    "needs_faketime": "libfaketime, g++ and java",
    "needs_compiler": "g++",
    "needs_jdk": "javac and Maven",
    "needs_node": "node and npm",
    "needs_ray": "Ray's raylet and head",
    "needs_kubernetes": "an API server of Kubernetes",
    "needs_sandbox": "bwrap",
    "needs_language_model": "a language model, made or loaded",
    "needs_converters": "LightGBM, XGBoost, scikit-learn and their converters, whose imports take seconds",
    "needs_campaign": "a campaign of faults, or generated requests",
    "needs_minutes": "more CPU time or waiting than the contract has",
    "needs_quiet": "a quiet machine: it compares times with predictions, and runs last",
}


_SYSTEMS: Final = ("shared", "pairs", "guarded")
"""Fixtures whose systems run until the suite ends; each belongs to one process, which starts it once."""
_TESTS: Final = Path(__file__).parent
_LAYERS: Final = ("system", "integration", "unit")
"""Layers in the order in which they run: the longest tests begin first, so that none is waited for at the end."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes of a run: tests wait for half of their time."""
    return min(2 * (os.cpu_count() or 1), 24)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=("contract", "needs"), help="run the tests without, or only those with a need")


def pytest_configure(config: pytest.Config) -> None:
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {need}")


def needs(item: pytest.Item) -> set[str]:
    """Return the needs that a test states."""
    return {mark.name for mark in item.iter_markers()} & NEEDS.keys()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the suite, and let tests that need a quiet machine run last."""
    suite: str | None = config.getoption("--suite")
    if suite:
        selected = [item for item in items if bool(needs(item)) == (suite == "needs")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(selected)])
        items[:] = selected
    items.sort(key=lambda item: ("needs_quiet" in needs(item), _LAYERS.index(item.path.relative_to(_TESTS).parts[0])))


class _Scheduling(LoadFileScheduling):
    """Scheduling of `--dist=loadfile` that gives the files of a started system to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        text = (self.config.rootpath / file).read_text()
        return next((system for system in _SYSTEMS if f"{system}: Cli" in text), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling | None:
    """Schedule by started systems and files where a run is divided by files."""
    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None

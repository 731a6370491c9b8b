"""Pytest plugin that lets Python's cyclic garbage collector skip modules and tests, which live as long as the run."""

import gc
from collections.abc import Generator

import pytest

from process.collection import tune_gc


def pytest_configure() -> None:
    """Collect nothing while modules are imported and tests are found."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect only what tests make."""
    tune_gc()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Generator[None]:
    """Collect a module's garbage while its errors are still reported: pytest-xdist loses those at a process's end.

    Objects that are left live as long as the run, nearly all of them. A visit of them after each module took a third of
    the unit tests' time.
    """
    yield
    gc.collect()
    gc.freeze()

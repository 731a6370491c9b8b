"""Tests of the limit of open files."""

import resource
from collections.abc import Generator

import pytest

from process.open_files import allow_open_files, open_files_limit


@pytest.fixture
def limit() -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("limit")
def test_allow_open_files_raises_and_never_lowers() -> None:
    assert allow_open_files(310) == 310
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310
    assert allow_open_files(200) == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310


def has_limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Simulate these limits, and return the list of the limits that are set."""
    found: list[tuple[int, int]] = []

    def get(_kind: int) -> tuple[int, int]:
        return soft, hard

    def put(_kind: int, limits: tuple[int, int]) -> None:
        found.append(limits)

    monkeypatch.setattr(resource, "getrlimit", get)
    monkeypatch.setattr(resource, "setrlimit", put)
    return found


def test_allow_open_files_stops_at_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_limits(monkeypatch, 1024, 4096)
    assert allow_open_files(10_256) == 4096
    assert found == [(4096, 4096)]


def test_open_files_limit_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_limits(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert open_files_limit(10) == allow_open_files(10) == 10
    assert not found

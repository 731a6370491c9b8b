"""How many files the process may open."""

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
def test_the_limit_is_raised_as_far_as_wanted_and_never_lowered() -> None:
    assert allow_open_files(310) == 310
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310
    assert allow_open_files(200) == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310


def test_no_more_than_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: asked.append(limits))
    assert allow_open_files(10_256) == 4096
    assert asked == [(4096, 4096)]


def test_no_limit_is_as_many_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.delattr(resource, "setrlimit")
    assert open_files_limit(10) == allow_open_files(10) == 10

"""A bounded folder of files: what was used longest ago goes first, what is held never."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry.artifact_cache import ArtifactCache


def _file(folder: Path, name: str, used: int) -> Path:
    path = folder / name
    path.write_bytes(b"x" * 100)
    os.utime(path, (used, 1))
    return path


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _never() -> None:
    raise AssertionError("it is here")


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for used, name in enumerate("abcd"):
        _file(tmp_path, name, used)
    ArtifactCache(tmp_path, 250).shrink()
    assert _names(tmp_path) == {"c", "d"}


def test_use_counts(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, 250)
    paths = [_file(tmp_path, name, used) for used, name in enumerate("abcd")]
    with cache.held(paths[0], _never):
        pass
    cache.shrink()
    assert _names(tmp_path) == {"a", "d"}
    assert paths[0].stat().st_mtime == 1


def test_what_is_held_stays_however_full_it_is(tmp_path: Path) -> None:
    cache, path = ArtifactCache(tmp_path, 0), _file(tmp_path, "a", 0)
    with cache.held(path, _never), cache.held(path, _never):
        cache.shrink()
        assert path.exists()
    cache.shrink()
    assert not path.exists()


def test_what_vanished_is_fetched(tmp_path: Path) -> None:
    with ArtifactCache(tmp_path, 1000).held(tmp_path / "a", lambda: _file(tmp_path, "a", 0) and None):
        assert (tmp_path / "a").exists()


def test_what_another_process_gave_up_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for used, name in enumerate("abc"):
        _file(tmp_path, name, used)
    is_file = Path.is_file

    def vanishes(path: Path) -> bool:
        found = is_file(path)
        if path.name == "b":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", vanishes)
    ArtifactCache(tmp_path, 100).shrink()
    assert _names(tmp_path) == {"c"}


def test_what_was_fetched_anew_and_is_held_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process gives a file up, fetches it again and holds it, between the look at it here and its lock."""
    cache, path = ArtifactCache(tmp_path, 0), _file(tmp_path, "a", 0)
    lock = fcntl.flock
    with ExitStack() as other:

        def overtaken(handle: int, kind: int) -> None:
            if kind & fcntl.LOCK_EX:
                path.unlink()
                _file(tmp_path, "a", 0)
                other.enter_context(cache.held(path, _never))
            lock(handle, kind)

        monkeypatch.setattr(fcntl, "flock", overtaken)
        cache.shrink()
        assert path.exists()


def test_without_a_bound_everything_stays(tmp_path: Path) -> None:
    _file(tmp_path, "a", 0)
    ArtifactCache(tmp_path, None).shrink()
    assert _names(tmp_path) == {"a"}

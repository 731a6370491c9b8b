"""Tests of the artifact cache: a bounded folder with least-recently-used eviction."""

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


def test_artifact_cache_evicts_least_recently_used(tmp_path: Path) -> None:
    for used, name in enumerate("abcd"):
        _file(tmp_path, name, used)
    ArtifactCache(tmp_path, 250).shrink()
    assert _names(tmp_path) == {"c", "d"}


def test_artifact_cache_updates_last_use(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, 250)
    paths = [_file(tmp_path, name, used) for used, name in enumerate("abcd")]
    with cache.held(paths[0], _never):
        pass
    cache.shrink()
    assert _names(tmp_path) == {"a", "d"}
    assert paths[0].stat().st_mtime == 1


def test_artifact_cache_keeps_held_files(tmp_path: Path) -> None:
    cache, path = ArtifactCache(tmp_path, 0), _file(tmp_path, "a", 0)
    with cache.held(path, _never), cache.held(path, _never):
        cache.shrink()
        assert path.exists()
    cache.shrink()
    assert not path.exists()


def test_artifact_cache_fetches_missing_file(tmp_path: Path) -> None:
    with ArtifactCache(tmp_path, 1000).held(tmp_path / "a", lambda: _file(tmp_path, "a", 0) and None):
        assert (tmp_path / "a").exists()


def test_artifact_cache_ignores_concurrently_removed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_artifact_cache_keeps_refetched_file_held_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process evicts, fetches and holds a file after this one has listed it and before it locks it."""
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


def test_artifact_cache_without_bound_keeps_all(tmp_path: Path) -> None:
    _file(tmp_path, "a", 0)
    ArtifactCache(tmp_path, None).shrink()
    assert _names(tmp_path) == {"a"}

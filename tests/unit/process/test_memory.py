"""Tests of memory sizes: those of the machine, or of the cgroup if its limit is lower."""

from pathlib import Path

import psutil
import pytest

from process.memory import free_memory, total_memory

GIB = 1 << 30


def limited(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    counters = {"anon": used - cached, "active_file": cached // 2, "inactive_file": cached // 2}
    (folder / "memory.stat").write_text("".join(f"{name} {count}\n" for name, count in counters.items()))
    return folder


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = psutil.virtual_memory()._replace(total=64 * GIB, available=32 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)


def test_free_memory_is_the_rest_of_container_limit(tmp_path: Path) -> None:
    cgroup = limited(tmp_path, str(6 * GIB), used=3 * GIB, cached=2 * GIB)
    assert (total_memory(cgroup), free_memory(cgroup)) == (6 * GIB, 5 * GIB), "what files are cached in is given back"


def test_free_memory_is_zero_above_the_limit(tmp_path: Path) -> None:
    assert free_memory(limited(tmp_path, str(GIB), used=2 * GIB, cached=0)) == 0


@pytest.mark.parametrize("limit", ["max", str(128 * GIB)])
def test_memory_ignores_limit_above_machine_memory(tmp_path: Path, limit: str) -> None:
    cgroup = limited(tmp_path, limit, used=3 * GIB, cached=0)
    assert (total_memory(cgroup), free_memory(cgroup)) == (64 * GIB, 32 * GIB)


def test_memory_without_cgroup_is_the_machines(tmp_path: Path) -> None:
    assert (total_memory(tmp_path), free_memory(tmp_path)) == (64 * GIB, 32 * GIB)

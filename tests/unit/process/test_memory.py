"""How much memory there is: the machine's, or what the cgroup may have where that is less."""

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


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    cgroup = limited(tmp_path, str(6 * GIB), used=3 * GIB, cached=2 * GIB)
    assert (total_memory(cgroup), free_memory(cgroup)) == (6 * GIB, 5 * GIB), "what files are cached in is given back"


def test_a_limit_that_is_passed_leaves_nothing(tmp_path: Path) -> None:
    assert free_memory(limited(tmp_path, str(GIB), used=2 * GIB, cached=0)) == 0


@pytest.mark.parametrize("limit", ["max", str(128 * GIB)])
def test_a_limit_beyond_the_machine_is_none(tmp_path: Path, limit: str) -> None:
    cgroup = limited(tmp_path, limit, used=3 * GIB, cached=0)
    assert (total_memory(cgroup), free_memory(cgroup)) == (64 * GIB, 32 * GIB)


def test_where_nothing_tells_of_a_cgroup_the_machines_counts(tmp_path: Path) -> None:
    assert (total_memory(tmp_path), free_memory(tmp_path)) == (64 * GIB, 32 * GIB)

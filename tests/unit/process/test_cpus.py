"""Tests of usable cores: the process's affinity, within the cgroup's quota."""

import os
from pathlib import Path

import pytest

from process.cpus import usable_cores, usable_cpus


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restrict the process to eight of the machine's cores."""

    def cores(_process: int) -> set[int]:
        return set(range(8, 16))

    monkeypatch.setattr(os, "sched_getaffinity", cores)


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("200000 100000", 2),
        ("250000 100000", 2),  # a third core would be stopped for half of each period
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("max 100000", 8),
        ("", 8),
    ],
)
@pytest.mark.usefixtures("eight_cores")
def test_usable_cores_stay_within_container_quota(cpu_max: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert usable_cores(tmp_path) == cores
    assert usable_cpus() == list(range(8, 16))


def test_usable_cpus_are_all_without_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert (usable_cpus(), usable_cores(tmp_path)) == ([0, 1, 2], 3)

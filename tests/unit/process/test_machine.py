"""Tests of what a process sees of its machine and its container: CPUs, memory, and why its event loop is late."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from process import cpus
from process.cpus import CpuMeter, MachineShare, lower_priority, usable_cores, usable_cpus
from process.loop_delay import DelayCause, main_cause
from process.memory import free_memory, total_memory

GIB = 1 << 30


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


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_lower_priority_affects_only_its_thread() -> None:
    before = nice()
    with ThreadPoolExecutor(1, initializer=lower_priority) as pool:
        assert pool.submit(nice).result() >= 10
    assert nice() == before


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cpus, "time", made)
    return made


def quota(folder: Path, used_s: float, cpu_max: str = "200000 100000") -> Path:
    (folder / "cpu.max").write_text(cpu_max)
    (folder / "cpu.stat").write_text(f"nr_periods 3\nusage_usec {used_s * 1e6:.0f}\nuser_usec 1\n")
    return folder


def settled(meter: CpuMeter, clock: Clock) -> float:
    for _ in range(100):
        clock.now += 0.1
        meter.busy()
    return meter.busy()


def test_cpu_meter_converges_to_machine_share(clock: Clock, tmp_path: Path) -> None:
    meter = CpuMeter(lambda: 0.6, tmp_path)
    assert meter.cpus == os.cpu_count()
    assert settled(meter, clock) == pytest.approx(0.6)


def test_cpu_meter_smooths_and_skips_short_intervals(clock: Clock, tmp_path: Path) -> None:
    shares = iter([0.0, 1.0])
    meter = CpuMeter(lambda: next(shares), tmp_path)
    clock.now += 0.1
    once = meter.busy()
    assert 0.0 < once < 0.5
    clock.now += 0.01
    assert meter.busy() == once, "the kernel counts in hundredths of a second"


def test_cpu_meter_reports_full_cgroup(clock: Clock, tmp_path: Path) -> None:
    meter = CpuMeter(lambda: 0.1, quota(tmp_path, 0.0, "50000 100000"))
    assert meter.cpus == 0.5
    for step in range(1, 100):
        clock.now += 0.1
        quota(tmp_path, 0.05 * step, "50000 100000")
        meter.busy()
    assert meter.busy() == pytest.approx(1.0)


def test_cpu_meter_ignores_cgroup_without_quota(clock: Clock, tmp_path: Path) -> None:
    meter = CpuMeter(lambda: 0.3, quota(tmp_path, 50.0, "max 100000"))
    assert meter.cpus == os.cpu_count()
    assert settled(meter, clock) == pytest.approx(0.3)


def test_cpu_meter_reads_this_machine(clock: Clock, tmp_path: Path) -> None:
    meter, began_s = CpuMeter(cgroup=tmp_path), time.process_time()
    while time.process_time() - began_s < 0.1:  # the kernel counts in ticks of 10 ms
        pass
    clock.now += 10.0
    assert 0.0 < meter.busy() <= 1.0


def test_machine_share_is_of_time_since_last_reading(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 50 0 0 0 99 0\ncpu0 1 2 3\n")
    share = MachineShare(stat)
    assert share() == 0.0, "no time has passed"
    stat.write_text("cpu  130 5 60 840 65 0 0 0 120 0\n")  # 45 in use, 40 idle, 15 waiting for disks
    assert share() == 0.45
    stat.write_text("of another kind")
    assert share() == 0.0
    assert MachineShare(tmp_path / "none")() == 0.0


def limited(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    counters = {"anon": used - cached, "active_file": cached // 2, "inactive_file": cached // 2}
    (folder / "memory.stat").write_text("".join(f"{name} {count}\n" for name, count in counters.items()))
    return folder


@pytest.fixture
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = psutil.virtual_memory()._replace(total=64 * GIB, available=32 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)


@pytest.mark.usefixtures("large_machine")
@pytest.mark.parametrize(
    ("limit", "used", "cached", "total_gib", "free_gib"),
    [
        (str(6 * GIB), 3, 2, 6, 5),  # what files are cached in is given back
        (str(GIB), 2, 0, 1, 0),
        ("max", 3, 0, 64, 32),
        (str(128 * GIB), 3, 0, 64, 32),
        (None, 0, 0, 64, 32),
    ],
    ids=["container", "above the limit", "no limit", "limit above the machine's memory", "no cgroup"],
)
def test_memory_is_that_of_the_machine_or_the_lower_limit_of_its_container(
    limit: str | None, used: int, cached: int, total_gib: int, free_gib: int, tmp_path: Path
) -> None:
    cgroup = tmp_path if limit is None else limited(tmp_path, limit, used * GIB, cached * GIB)
    assert (total_memory(cgroup), free_memory(cgroup)) == (total_gib * GIB, free_gib * GIB)


@pytest.mark.parametrize(
    ("collecting_s", "running_s", "cause"),
    [
        (0.06, 0.1, DelayCause.COLLECTOR),
        (0.04, 0.06, DelayCause.CALLBACKS),
        (0.0, 0.05, DelayCause.CORE),
    ],
)
def test_delay_of_the_loop_counts_for_its_main_cause(collecting_s: float, running_s: float, cause: DelayCause) -> None:
    assert main_cause(0.1, collecting_s, running_s) is cause

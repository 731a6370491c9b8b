"""Tests of `CpuMeter`: the CPU time in use, of the machine or of its cgroup if that is fuller."""

import os
import time
from pathlib import Path

import pytest

from process import cpu_meter
from process.cpu_meter import CpuMeter, MachineShare


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cpu_meter, "time", made)
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

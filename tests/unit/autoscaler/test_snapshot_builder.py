"""Tests of the snapshot builder: pins and settings become one set of bounds, and external workers are listed."""

from autoscaler.decide.snapshot import HardwareType, ScaleBounds
from autoscaler.launchers.base import LaunchedWorker, LaunchState
from autoscaler.observe.snapshot_builder import bounds_of, with_others
from schemas.rows.scaling import Pin, PinKind
from tests.store_rows import a_worker

CPU = HardwareType(name="cpu", price_per_hour=0.1, start_s=2.0, slots=1, memory_bytes=10**9, maximum=1)


def test_bounds_of_use_minimum_setting_without_pin() -> None:
    pins = [Pin(kind=PinKind.TASK, name="digits", maximum=3), Pin(kind=PinKind.HARDWARE, name="cuda", minimum=0)]
    assert set(bounds_of(pins, {"cpu": 2, "cuda": 1})) == {
        ScaleBounds(kind="task", name="digits", maximum=3),
        ScaleBounds(kind="hardware", name="cuda", minimum=0),
        ScaleBounds(kind="hardware", name="cpu", minimum=2),
    }


def test_bounds_of_prefer_pinned_maximum() -> None:
    pins = [Pin(kind=PinKind.HARDWARE, name="cpu", maximum=1)]
    assert bounds_of(pins, {"cpu": 2}) == (ScaleBounds(kind="hardware", name="cpu", minimum=1, maximum=1),)


def test_with_others_lists_live_external_workers() -> None:
    workers = (a_worker("box-3f9a-cpu-0"), a_worker("den-11aa-cpu-0"), a_worker("den-11aa-cpu-1", alive=False))
    own = LaunchedWorker(worker="box-3f9a-cpu-0", hardware="cpu", state=LaunchState.RUNNING)
    (cpu,) = with_others([CPU], workers, [own])
    assert cpu.others == ("den-11aa-cpu-0",)

"""Tests of an instance's health, and of the drift of its profile."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.status import SERVING, InstanceState
from workers.serving.health import (
    LEAST,
    LEAST_BATCHES,
    MOST,
    TOLERANCE,
    WINDOWS,
    BatchMeter,
    Correction,
    DriftMeter,
    DriftWindow,
    HealthReading,
    correct,
    next_state,
    ratio_of,
)

ACTIVE, OVERLOADED, INTERFERED = InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.INTERFERED
CALM, BUSY, SLOW = HealthReading(1.0, 0.1, 0.0), HealthReading(1.0, 1.2, 0.0), HealthReading(3.0, 0.1, 0.0)
BEHIND = HealthReading(1.0, 0.1, 1.5)
BETWEEN = HealthReading(2.0, 0.9, 0.9)

serving = st.sampled_from(sorted(SERVING))
readings = st.builds(HealthReading, st.floats(0.1, 10), st.floats(0, 3), st.floats(0, 5))


@pytest.mark.parametrize(
    ("before", "reading", "after"),
    [
        (ACTIVE, CALM, ACTIVE),
        (ACTIVE, BUSY, OVERLOADED),
        (ACTIVE, BEHIND, OVERLOADED),
        (ACTIVE, SLOW, INTERFERED),
        (ACTIVE, HealthReading(3.0, 1.2, 0.0), OVERLOADED),
        (OVERLOADED, CALM, ACTIVE),
        (OVERLOADED, SLOW, INTERFERED),
        (INTERFERED, CALM, ACTIVE),
        (INTERFERED, BUSY, OVERLOADED),
        (INTERFERED, HealthReading(3.0, 1.2, 0.0), INTERFERED),
    ],
)
def test_next_state_transitions(before: InstanceState, reading: HealthReading, after: InstanceState) -> None:
    assert next_state(before, reading) is after


def test_next_state_keeps_state_between_limits() -> None:
    assert next_state(ACTIVE, BETWEEN) is ACTIVE
    assert next_state(OVERLOADED, BETWEEN) is OVERLOADED
    assert next_state(INTERFERED, BETWEEN) is INTERFERED


@given(serving, readings)
def test_next_state_settles_for_steady_reading(before: InstanceState, reading: HealthReading) -> None:
    once = next_state(before, reading)
    twice = next_state(once, reading)
    assert once in SERVING
    assert next_state(twice, reading) is twice


def test_slowdown_decays_while_idle() -> None:
    meter = BatchMeter()
    for _ in range(100):
        meter.computed(1, 0.1, 0.01, 0.0, left=False)
    assert meter.slowdown > 5
    meter.end_period(1.0, 0.01)
    for _ in range(10):
        meter.end_period(1.0, 0.01)
    assert meter.slowdown == pytest.approx(1.0, abs=0.05)


def test_slowdown_ignores_microseconds() -> None:
    meter = BatchMeter()
    for _ in range(100):
        meter.computed(1, 100e-6, 10e-6, 0.0, left=False)
    assert meter.slowdown < 1.1


def test_load_is_online_share_of_peak() -> None:
    meter = BatchMeter()
    for _ in range(50):
        meter.arrived(1)
        meter.arrived(0)
    meter.end_period(1.0, 0.01)
    assert meter.load == pytest.approx(0.5)
    assert meter.online_per_query == pytest.approx(0.5)


def test_drag_includes_time_between_batches() -> None:
    meter = BatchMeter()
    for batch in range(1, 101):  # 10 ms of computing, then 15 ms of other work
        meter.computed(8, 0.01, 0.01, batch * 0.025, left=True)
    assert meter.slowdown == pytest.approx(1.0, abs=0.01)
    assert meter.queue_slowdown == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    ("left", "consecutive"), [(True, False), (False, True)], ids=["other instances", "pauses with an empty queue"]
)
def test_drag_excludes(left: bool, consecutive: bool) -> None:
    meter = BatchMeter()
    for batch in range(1, 101):
        meter.computed(8, 0.01, 0.01, batch * 0.025, left=left, consecutive=consecutive)
    assert meter.queue_slowdown == pytest.approx(1.0, abs=0.01)


def test_drag_decays_while_idle() -> None:
    meter = BatchMeter()
    for batch in range(1, 101):
        meter.computed(8, 0.01, 0.01, batch * 0.1, left=True)
    for _ in range(11):
        meter.end_period(1.0, 0.01)
    assert meter.queue_slowdown == pytest.approx(1.0, abs=0.05)


def test_slowdown_of_uneven_inputs_tolerates_slow_batches() -> None:
    even, uneven = BatchMeter(), BatchMeter(even=False)
    for meter in (even, uneven):
        for batch in range(400):  # every twentieth takes 200 ms, the others 1 ms
            meter.computed(1, 0.2 if batch % 20 == 0 else 0.001, 0.011, float(batch), left=False)
        meter.computed(1, 0.2, 0.011, 401.0, left=False)
    assert even.slowdown > 2.0
    assert uneven.slowdown == pytest.approx(1.2, abs=0.3)


PROFILED_S = 0.01
factors = st.floats(LEAST, MOST)
steady = st.floats(1.0, 1.1)


def windows(ratios: Sequence[float]) -> list[DriftWindow]:
    return [DriftWindow(60.0 * number, ratio) for number, ratio in enumerate(ratios)]


@given(factors, st.lists(st.floats(0.01, 100.0), max_size=2 * WINDOWS), st.integers(0, WINDOWS - 1))
def test_correct_keeps_factor_if_one_window_agrees(factor: float, ratios: list[float], at: int) -> None:
    last = ratios[-WINDOWS:]
    if last:
        last[at % len(last)] = factor
    assert correct(factor, windows(last)) is None


@given(factors, st.floats(0.01, 100.0), st.lists(steady, min_size=WINDOWS, max_size=WINDOWS))
def test_correct_is_bounded_and_settles(factor: float, real: float, noise: list[float]) -> None:
    seen = windows([real * one for one in noise])
    found = correct(factor, seen)
    if real > factor * TOLERANCE or real * 1.1 < factor / TOLERANCE:
        bounded = min(max(real, LEAST), MOST)
        assert found is None or (LEAST <= found.factor <= MOST and found.since_s == 0.0)
        after = factor if found is None else found.factor
        assert after == pytest.approx(bounded, rel=0.22, abs=0.01)
        assert correct(after, seen) is None, "it settles"
    elif factor / TOLERANCE * 1.1 < real < factor * TOLERANCE / 1.1:
        assert found is None


@given(st.lists(st.floats(0.01, 100.0), min_size=WINDOWS, max_size=WINDOWS), factors)
def test_correct_ignores_unsteady_windows(ratios: list[float], factor: float) -> None:
    ratios[0], ratios[-1] = 1.0, 1.6
    assert correct(factor, windows(ratios)) is None


def test_correct_removes_correction_if_profile_fits() -> None:
    assert correct(2.0, windows([1.05] * WINDOWS)) == Correction(1.0, 0.0)
    assert correct(1.0, windows([1.05] * WINDOWS)) is None


def test_ratio_of_ignores_submillisecond_differences() -> None:
    assert ratio_of(0.0009, 0.00001) == 1.0
    assert ratio_of(0.02, 0.01) == 2.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def compute(self, meter: DriftMeter, seconds: Sequence[float], every_s: float = 1.0) -> list[Correction]:
        found: list[Correction] = []
        for one in seconds:
            self.now_s += every_s
            correction = meter.computed(one, PROFILED_S, self.now_s)
            if correction is not None:
                found.append(correction)
        return found


def test_drift_meter_corrects_lasting_slowdown_once() -> None:
    clock, meter = Clock(), DriftMeter(60.0)
    assert clock.compute(meter, [PROFILED_S] * 600) == []
    slow = [2 * PROFILED_S] * (61 * WINDOWS + 60)
    (found,) = clock.compute(meter, slow)
    assert found.factor == meter.factor == pytest.approx(2.0, abs=0.01)
    assert 700 <= found.since_s <= 760, "from the first window on that was slow"
    assert clock.compute(meter, [2 * PROFILED_S] * 3000) == []


def test_drift_meter_ignores_disturbed_batches() -> None:
    clock, meter = Clock(), DriftMeter(60.0)
    disturbed = [PROFILED_S if number % 3 == 0 else 5 * PROFILED_S for number in range(5000)]
    assert clock.compute(meter, disturbed) == []


def test_drift_meter_ignores_short_slowdowns() -> None:
    clock, meter = Clock(), DriftMeter(60.0)
    for _ in range(20):
        assert clock.compute(meter, [4 * PROFILED_S] * 2000, every_s=0.15) == []
        assert clock.compute(meter, [PROFILED_S] * 100, every_s=3.0) == []


def test_drift_meter_window_requires_enough_batches() -> None:
    clock, meter = Clock(), DriftMeter(1.0)
    assert clock.compute(meter, [3 * PROFILED_S] * (LEAST_BATCHES * WINDOWS - 1), every_s=100.0) == []
    assert [found.factor for found in clock.compute(meter, [3 * PROFILED_S])] == [3.0]


def test_drift_meter_of_uneven_inputs_compares_means() -> None:
    clock, meter = Clock(), DriftMeter(0.0, even=False)
    mixed = [PROFILED_S / 2, PROFILED_S / 2, 2 * PROFILED_S] * (70 * WINDOWS)
    assert clock.compute(meter, mixed) == []
    assert [found.factor for found in clock.compute(meter, [2 * s for s in mixed])] == [2.0]

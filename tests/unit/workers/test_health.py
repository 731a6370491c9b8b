import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.status import SERVING, InstanceState
from workers.health import BatchMeter, HealthReading, next_state

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


def test_drag_excludes_other_instances() -> None:
    meter = BatchMeter()
    for batch in range(1, 101):
        meter.computed(8, 0.01, 0.01, batch * 0.025, left=True, consecutive=False)
    assert meter.queue_slowdown == pytest.approx(1.0, abs=0.01)


def test_drag_excludes_pauses_with_empty_queue() -> None:
    meter = BatchMeter()
    for batch in range(1, 101):
        meter.computed(1, 0.01, 0.01, float(batch), left=False)
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

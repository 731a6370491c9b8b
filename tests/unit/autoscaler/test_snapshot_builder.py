"""What people pinned and what the settings say become one set of bounds."""

from autoscaler.decide.snapshot import ScaleBounds
from autoscaler.observe.snapshot_builder import bounds_of
from schemas.rows.scaling import Pin, PinKind


def test_the_settings_least_holds_where_nobody_pinned_one() -> None:
    pins = [Pin(kind=PinKind.TASK, name="digits", maximum=3), Pin(kind=PinKind.HARDWARE, name="cuda", minimum=0)]
    assert set(bounds_of(pins, {"cpu": 2, "cuda": 1})) == {
        ScaleBounds(kind="task", name="digits", maximum=3),
        ScaleBounds(kind="hardware", name="cuda", minimum=0),
        ScaleBounds(kind="hardware", name="cpu", minimum=2),
    }


def test_a_pinned_most_goes_before_the_settings_least() -> None:
    pins = [Pin(kind=PinKind.HARDWARE, name="cpu", maximum=1)]
    assert bounds_of(pins, {"cpu": 2}) == (ScaleBounds(kind="hardware", name="cpu", minimum=1, maximum=1),)

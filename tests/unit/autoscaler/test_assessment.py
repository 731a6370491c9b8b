"""What people pinned and what the settings say become one set of bounds."""

from autoscaler.assessment import bounds_of
from autoscaler.decide.situation import Bounds
from schemas.rows.scaling import Pin, PinKind


def test_the_settings_least_holds_where_nobody_pinned_one() -> None:
    pins = [Pin(kind=PinKind.TASK, name="digits", most=3), Pin(kind=PinKind.HARDWARE, name="cuda", least=0)]
    assert set(bounds_of(pins, {"cpu": 2, "cuda": 1})) == {
        Bounds(kind="task", name="digits", most=3),
        Bounds(kind="hardware", name="cuda", least=0),
        Bounds(kind="hardware", name="cpu", least=2),
    }


def test_a_pinned_most_goes_before_the_settings_least() -> None:
    pins = [Pin(kind=PinKind.HARDWARE, name="cpu", most=1)]
    assert bounds_of(pins, {"cpu": 2}) == (Bounds(kind="hardware", name="cpu", least=1, most=1),)

"""Tests of rounds: those of another speed of the machine are taken again, and figures show the spread."""

from collections.abc import Awaitable, Callable

import pytest

from bench.core.figures import Figure, at_least, at_most
from bench.core.rounds import ROUNDS, loop_on_all_cores, odd_one, take_rounds
from bench.results import figure_table

STEADY_S = 1.0


def loops_of(*slow: int) -> Callable[[], Awaitable[float]]:
    """Return a calibration loop that is slow after the rounds with these numbers."""
    calls = iter(range(1000))

    async def loop() -> float:
        number, after = divmod(next(calls), 2)
        return 2 * STEADY_S if after and number in slow else STEADY_S

    return loop


async def numbered(number: int) -> int:
    return number


@pytest.mark.parametrize(
    ("slow", "taken", "repeated"),
    [
        ((), [0, 1, 2, 3, 4], 0),
        ((1,), [0, 5, 2, 3, 4], 1),
        ((1, 3), [0, 5, 2, 6, 4], 2),
        ((1, 5, 6, 7, 8, 9), [0, 9, 2, 3, 4], ROUNDS),
    ],
)
async def test_take_rounds_repeats_rounds_of_another_speed(
    slow: tuple[int, ...], taken: list[int], repeated: int
) -> None:
    rounds = await take_rounds(numbered, loop=loops_of(*slow))
    assert rounds.taken == taken
    assert rounds.repeated == repeated
    assert rounds.drift == (1.0 if 9 in slow else 0.0)


def test_odd_one_is_farthest_from_median() -> None:
    assert odd_one([1.0, 1.05, 0.95, 0.7, 1.2]) == 3
    assert odd_one([1.0, 1.05, 0.95]) is None


async def test_loop_on_all_cores_takes_time() -> None:
    assert await loop_on_all_cores() > 0


def test_figures_of_rounds_use_medians_and_pair_ratios() -> None:
    figure = at_most("a", "apache", [3.0, 1.0, 2.0], "ms", [2.0, 1.0, 4.0], 1.0)
    assert (figure.value, figure.baseline, figure.ratio, figure.passed) == (2.0, 2.0, 1.0, True)
    assert figure.ratios == [1.5, 1.0, 0.5]
    assert at_least("a", "apache", 2.0, "ms", [1.0, 2.0], 1.0).ratios == []


async def test_figure_table_shows_spread_speed_and_commit() -> None:
    rounds = await take_rounds(numbered, loop=loops_of(0, 5, 6, 7, 8, 9))
    (figure,) = rounds.of([at_least("one", "apache", [1.0, 4.0, 2.0], "/s", [1.0, 2.0, 2.0], 0.5)])
    old = Figure(name="two", broker="apache", value=3.0, unit="s", commit="abc")
    first, second = figure_table([figure, old]).splitlines()[2:]
    assert first == "| one | 2 (1 to 4) /s | 2 (1 to 2) /s | 1.00 (1 to 2) | >= 0.5x | yes | ±100%, 5 again |  |"
    assert second == "| two | 3 s |  |  |  |  |  | abc |"

"""Tests of `measure_trial`: the goodput of a server, and its behaviour under overload."""

import os
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from bench.core.bracket import PRECISION
from bench.load.http_load import LoadReport, LoadShape, RequestTally
from bench.load.http_message import RawAnswer, SampledAnswer
from bench.peers.trial import OVERLOAD, Contestant, Durations, Trial, measure_trial, median_trial
from bench.peers.workloads import WORKLOADS

DURATIONS = Durations(closed_s=1.0, step_s=10.0, overload_s=10.0)


class Capacity:
    """Load on a server that answers `limit` queries a second, and others with an error.

    If it is moody, it answers half of them in the first load at a rate near the limit.
    """

    def __init__(self, limit: float, moody: bool = False, error: int = 503) -> None:
        self.limit = limit
        self._error = error
        self.samples = [SampledAnswer(0, RawAnswer({}, b""))]
        self._moody = moody
        self._tried: set[float] = set()

    async def run(self, shape: LoadShape) -> LoadReport:
        rate = shape.rate or self.limit
        sent = round(rate * shape.seconds)
        answered = min(sent, round(self.limit * shape.seconds))
        if self._moody and shape.rate > 0.9 * self.limit and shape.rate not in self._tried:
            self._tried.add(shape.rate)
            answered //= 2
        return LoadReport(
            sent=sent, answered=answered, in_time=answered, statuses={200: answered, self._error: sent - answered},
            broken=0, unanswered=0, p50_ms=1.0, p90_ms=2.0, p99_ms=3.0, max_ms=4.0, elapsed_s=shape.seconds, cpu_s=0.1,
            lag_p99_ms=0.0, connections=shape.connections, kinds=[RequestTally(sent, answered, answered)],
        )  # fmt: skip


async def measured(load: Capacity, check: Sequence[SampledAnswer] | None = None) -> Trial:
    def compare(samples: Sequence[SampledAnswer]) -> None:
        if check is not None and list(samples) != list(check):
            raise RuntimeError("wrong")

    contestant = Contestant("fake", os.getpid(), load, compare)
    return await measure_trial(contestant, WORKLOADS["S"], "", DURATIONS, lambda _text: None)


@pytest.mark.parametrize("moody", [False, True])
async def test_measure_trial_finds_goodput_despite_failed_steps(moody: bool) -> None:
    trial = await measured(Capacity(1000.0, moody))
    assert 1000.0 / PRECISION <= trial.goodput <= 1000.0 * 1.02
    assert [loop.rate for loop in trial.closed] == [1000.0] * 3
    assert trial.client_cpu_ms == pytest.approx(100.0 / (10 * trial.goodput), rel=0.02)


async def test_measure_trial_overload_excludes_refused() -> None:
    trial = await measured(Capacity(1000.0))
    assert trial.overload_accepted == pytest.approx(1000.0, rel=0.01)
    assert trial.goodput * OVERLOAD > trial.overload_accepted
    assert trial.overload_in_time == 1.0


async def test_measure_trial_counts_passed_deadlines_as_late() -> None:
    trial = await measured(Capacity(1000.0, error=504))
    assert trial.overload_accepted == pytest.approx(OVERLOAD * trial.goodput, rel=0.01)
    assert trial.overload_in_time == pytest.approx(1000.0 / trial.overload_accepted, rel=0.01)


async def test_measure_trial_raises_for_wrong_answer() -> None:
    with pytest.raises(RuntimeError, match="wrong"):
        await measured(Capacity(1000.0), check=[])


async def test_measure_trial_raises_if_no_rate_is_in_time() -> None:
    with pytest.raises(RuntimeError, match="answers in time at no rate"):
        await measured(Capacity(0.0))


async def test_median_trial_lists_all_rounds() -> None:
    fast, slow, middle, slower = [await measured(Capacity(limit)) for limit in (4000.0, 1000.0, 2000.0, 500.0)]
    assert median_trial([fast, slow, middle]) == replace(middle, rounds=[fast.goodput, slow.goodput, middle.goodput])
    assert median_trial([fast, slow, middle, slower]).goodput == slow.goodput
    assert median_trial([fast]) == fast

"""Cost and quality of a decision with many replicas of a variant: the policy against an evaluation of all replicas.

Each size is measured idle, and overloaded: every instance is busy beyond the deadline, and a query may wait only for
its share, so that no candidate fits. Quality is the p99 of the finish time in a simulated crowd at 90 % load, under the
policy over the full evaluation; also with several selectors, which all choose the same instance in a full evaluation.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from math import isnan
from statistics import median
from typing import Final

from msgspec.structs import replace

from bench.core.figures import Figure, beside, percentile
from bench.scale.crowd import Crowd, Sent, decision_us, full_walk
from selector.policy.choice import PolicyConfig

SIZES: Final = (1, 10, 200, 1_000, 10_000)
_CONFIG: Final = PolicyConfig()
_ROUNDS: Final = 5
_MOST: Final = 1.5
_DEADLINES_BEHIND: Final = 50
"""Backlog in inputs of 50 ms, for queries with a latency of one second."""
_LOAD: Final = 0.9


async def measure() -> list[Figure]:
    """Measure cost and quality; takes two minutes."""
    return [*_costs(), *_qualities()]


def _costs() -> Iterator[Figure]:
    for overloaded in (False, True):
        crowds = {size: Crowd(size, variants=2) for size in SIZES}
        if overloaded:
            for crowd in crowds.values():
                crowd.fill(_DEADLINES_BEHIND)
        # In turns, so that other work on the machine affects all sizes alike.
        rounds = [{size: _cost(crowd, overloaded) for size, crowd in crowds.items()} for _ in range(_ROUNDS)]
        took = {size: [round_[size] for round_ in rounds] for size in SIZES}
        with full_walk():
            walked = {size: _cost(crowd, overloaded) for size, crowd in crowds.items()}
        state = "overloaded" if overloaded else "idle"
        for size in SIZES:
            name = f"a decision, {size} replicas, {state} (baseline: walk over all)"
            figure = beside(name, "none", took[size], "us", walked[size])
            passed = median(took[size]) <= _MOST * median(took[1])
            yield replace(figure, target=f"<= {_MOST}x of 1 replica", passed=passed) if size > 1 else figure


def _cost(crowd: Crowd, overloaded: bool) -> float:
    return decision_us(crowd, 1.0, _CONFIG, 0.25 if overloaded else float("inf"))


def _qualities() -> Iterator[Figure]:
    for size, selectors in ((200, 1), (200, 8), (1_000, 1)):
        drawn = _p99(Crowd(size, selectors=selectors), nullcontext())
        walked = _p99(Crowd(size, selectors=selectors), full_walk())
        name = f"p99 of the finish, {size} replicas 90 % busy, {selectors} selectors (baseline: walk over all)"
        yield beside(name, "none", drawn * 1e3, "ms", walked * 1e3)
    compared = [sent for sent in _settled(Crowd(SIZES[-1]), compare_every=499) if not isnan(sent.best_s)]
    drawn = percentile([sent.predicted_s for sent in compared], 0.99)
    best = percentile([sent.best_s for sent in compared], 0.99)
    name = f"p99 of the predicted finish, {SIZES[-1]} replicas 90 % busy (baseline: the best replica)"
    yield beside(name, "none", drawn * 1e3, "ms", best * 1e3)


def _p99(crowd: Crowd, policy: AbstractContextManager[None]) -> float:
    with policy:
        return percentile([sent.true_s for sent in _settled(crowd)], 0.99)


def _settled(crowd: Crowd, compare_every: int = 0) -> Iterator[Sent]:
    """Return an iterator of the queries sent after a warm-up of one second."""
    for _ in crowd.run(_LOAD, 1.0, _CONFIG):
        pass
    return crowd.run(_LOAD, 1.0 if len(crowd.state.workers) <= 1_000 else 0.5, _CONFIG, compare_every)

"""Expected load: a task's growth until new capacity could serve, and a canary's share of its model's load.

Growth is forecast from the trend: the slope of the last half minute, less its uncertainty, if both halves rise. A
forecast only prewarms. It is never below the present load, so a wrong forecast costs money but no answers, and it is at
most a fixed multiple of the present load.

The load of a canary is counted before the canary receives it. The serving version stays sized for the whole load,
because a rollback sends everything back to it at once. Selectors count a query by its requested target, not by the
version that answers. So in a task with several models, a canary's share applies to the part of the load that its model
answered recently, or to all of it if nothing was answered.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Variant
from schemas.versions import Rollout, Versions

TREND_S: Final = 30
"""Seconds in which a trend shows."""
_CERTAIN: Final = 2.0
"""Standard errors that are subtracted from a slope. A forecast adds workers at once and removes them a minute later, so
a rise that is only likely would be paid for most of the time.
"""
_LEAST: Final = 20
_MOST_GROWTH: Final = 2.0
_NOISE: Final = 3.0
"""Standard deviations of a second's inputs that count as noise of arrivals."""


def growth(history: Sequence[float], horizon_s: float, present: float) -> float:
    """Return the ratio of the highest load expected within `horizon_s` to the present one, 1 to 2.

    Args:
        history: load, one value a second, the latest last.
        horizon_s: seconds to look ahead.
        present: load now.
    """
    if len(history) < _LEAST or present <= 0 or horizon_s <= 0:
        return 1.0
    series = np.nan_to_num(np.asarray(history, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    expected = _trend(series[-TREND_S:], max(round(horizon_s), 1))
    return float(min(max(expected / present, 1.0), _MOST_GROWTH))


def expected_rate(load: ClassLoad, growth: float = 1.0) -> float:
    """Return the inputs a second to plan for: the mean with its growth, or a busy recent second less noise if higher.

    The busier of several seconds exceed the mean even if the load does not change. What exceeds it by less than three
    standard deviations of Poisson arrivals is such noise: summed over classes, it would be capacity that never is used.
    """
    noise = _NOISE * math.sqrt(load.inputs_per_s * load.mean_batch)
    return load.inputs_per_s + max(load.inputs_per_s * (growth - 1.0), load.peak_per_s - load.inputs_per_s - noise, 0.0)


def _trend(recent: NDArray[np.float64], steps: int) -> float:
    """Return the load `steps` ahead if it goes on to rise as it certainly did in the recent seconds; 0 without a rise.

    The least slope of these seconds and of their halves counts: after a step, one half is level.
    """
    before, after = np.array_split(recent, 2)
    slope = min(_certain_slope(part) for part in (before, after, recent))
    return float(after.mean()) + slope * (len(after) / 2 + steps) if slope > 0 else 0.0


def _certain_slope(values: NDArray[np.float64]) -> float:
    """Return the slope of the least-squares line through values, less its uncertainty."""
    times = np.arange(len(values)) - (len(values) - 1) / 2
    spread = float(times @ times)
    slope = float(times @ values) / spread
    noise = values - values.mean() - slope * times
    return slope - _CERTAIN * math.sqrt(float(noise @ noise) / (len(values) - 2) / spread)


def candidate_targets(versions: Versions) -> Iterator[tuple[str, str]]:
    """Yield pairs of task and candidate target of its models' rollouts, both canaries and shadows."""
    for task, rollouts in versions.rollouts.items():
        for rollout in rollouts:
            if rollout.is_canary or rollout.is_shadowed:
                yield task, rollout.candidate_target


def canary_loads(snapshot: ClusterSnapshot, variants: Mapping[str, Variant]) -> list[ClassLoad]:
    """Return the expected load of each canary, by load class."""
    found = list[ClassLoad]()
    for task, rollouts in snapshot.versions.rollouts.items():
        for rollout in rollouts:
            if rollout.is_canary:
                answered = _answered_share(snapshot, variants, task, rollout)
                found += (
                    _of_canary(load, rollout, answered) for load in snapshot.classes if _concerned(load, task, rollout)
                )
    return found


def _concerned(load: ClassLoad, task: str, rollout: Rollout) -> bool:
    asked = load.load_class
    return asked.task == task and not asked.offline and rollout.concerns(asked.target)


def _of_canary(load: ClassLoad, rollout: Rollout, answered: float) -> ClassLoad:
    asked = load.load_class
    share = rollout.share * (answered if asked.target is None else 1.0)
    return replace(
        load,
        load_class=replace(asked, target=rollout.candidate_target),
        inputs_per_s=share * load.inputs_per_s,
        peak_per_s=share * load.peak_per_s,
    )


def _answered_share(snapshot: ClusterSnapshot, variants: Mapping[str, Variant], task: str, rollout: Rollout) -> float:
    """Return the share of a task's answered inputs that came from versions of the rollout's model."""
    own = rollout.answering_targets | {rollout.candidate_target}
    rates = defaultdict[bool, float](float)
    for load in snapshot.instance_loads:
        variant = variants.get(load.variant)
        if variant is not None and variant.task == task:
            rates[not own.isdisjoint(snapshot.versions.targets_of(variant.architecture))] += load.inputs_per_s
    total = rates[True] + rates[False]
    return rates[True] / total if total > 0 else 1.0

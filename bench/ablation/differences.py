"""Differences between simulations with and without a mechanism, over paired seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Final, NamedTuple

from bench.ablation.trial import AblationFigures, AblationTrial

FIGURES: Final = {
    "violations": "violations", "worst_tenant": "worst tenant", "p99_ms": "p99", "accuracy": "accuracy",
    "usd_per_hour": "cost", "offline": "offline",
}  # fmt: skip
"""Figures of a trial, with their titles."""
_SHARES: Final = frozenset({"violations", "worst_tenant", "offline"})
"""Figures whose differences are in percentage points; those of the others are relative."""
_MORE_IS_BETTER: Final = frozenset({"accuracy", "offline"})
NOTICEABLE: Final = 0.01


class Difference(NamedTuple):
    """Difference of a figure, as a share."""

    figure: str
    mean: float
    spread: float
    """Sample standard deviation over the seeds."""
    seeds: int = 1

    @property
    def is_noticeable(self) -> bool:
        """True if it is at least 1 % and more than its deviation."""
        return abs(self.mean) >= NOTICEABLE and abs(self.mean) > self.spread

    @property
    def is_worse(self) -> bool:
        """True if the figure is worse than with the mechanism."""
        return (self.mean < 0) is (self.figure in _MORE_IS_BETTER)

    def __str__(self) -> str:
        unit = "pp" if self.figure in _SHARES else "%"
        return f"{100 * self.mean:+.1f} ±{100 * self.spread:.1f} {unit}"


Differences = Mapping[str, Mapping[str, tuple[Difference, ...]]]
"""Differences of all figures, by change and workload."""


def differences(results: Mapping[AblationTrial, AblationFigures]) -> Differences:
    """Compare each trial with the unchanged one of its workload and seed."""
    pairs = defaultdict[str, defaultdict[str, list[tuple[AblationFigures, AblationFigures]]]](lambda: defaultdict(list))
    for trial, figures in results.items():
        if trial.change and AblationTrial(trial.workload, trial.seed) in results:
            pairs[trial.change][trial.workload].append((results[AblationTrial(trial.workload, trial.seed)], figures))
    return {
        change: {workload: tuple(_differences(found)) for workload, found in of_change.items()}
        for change, of_change in pairs.items()
    }


def _differences(pairs: Iterable[tuple[AblationFigures, AblationFigures]]) -> Iterable[Difference]:
    found = list(pairs)
    for name in FIGURES:
        each = [_difference(name, getattr(base, name), getattr(without, name)) for base, without in found]
        yield Difference(name, fmean(each), stdev(each) if len(each) > 1 else 0.0, len(each))


def _difference(name: str, base: float, without: float) -> float:
    if name in _SHARES:
        return without - base
    return without / base - 1.0 if base > 0 and without > 0 else 0.0  # 0: nothing was answered

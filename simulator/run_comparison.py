"""Comparison of two runs, figure by figure."""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.errors import OperatorError
from simulator.figures import MeanFigure
from simulator.run_record import RunRecord

_HIGHER: Final = frozenset({"attainment", "goodput_per_s", "answered", "accuracy"})
"""Figures of which more is better."""
_LOWER: Final = frozenset(
    {
        "violations", "late", "refused", "expired", "failed", "waiting", "p50_ms", "p90_ms", "p99_ms",
        "usd", "usd_per_hour", "usd_per_1000", "prediction_error",
    }
)  # fmt: skip
_ABSENT: Final = MeanFigure(0.0, 0.0)
"""Count of a refusal or of a change that a run does not have."""


class ComparedFigure(NamedTuple):
    """One figure of two runs."""

    name: str
    base: MeanFigure
    other: MeanFigure

    @property
    def difference(self) -> float:
        """Difference of the means; NaN if one is unknown."""
        return self.other.mean - self.base.mean

    @property
    def ratio(self) -> float:
        """Ratio of the means to that of the base; NaN if one is unknown or the base is 0."""
        return self.other.mean / self.base.mean if self.base.mean else math.nan

    def is_worse(self, tolerance: float) -> bool:
        """Return true if the other run is worse by more than this share of the base, or its figure became unknown."""
        if math.isnan(self.difference):
            return math.isnan(self.other.mean) and not math.isnan(self.base.mean)
        loss = -self.difference if self.name in _HIGHER else self.difference
        return loss > tolerance * abs(self.base.mean)


def compare_runs(base: RunRecord, other: RunRecord) -> list[ComparedFigure]:
    """Return all figures of two runs, in the order of the base."""
    before, after = base.figures(), other.figures()
    names = dict.fromkeys([*before, *after])
    return [ComparedFigure(name, before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in names]


def worse_figures(
    compared: Iterable[ComparedFigure], names: Iterable[str], tolerance: float = 0.0
) -> list[ComparedFigure]:
    """Return the figures among `names` in which the other run is worse by more than the tolerance.

    Raises:
        OperatorError: a figure is unknown, or neither more nor less of it is better.
    """
    wanted = set(names)
    if unknown := sorted(wanted - _HIGHER - _LOWER):
        raise OperatorError(f"{', '.join(unknown)} cannot be worse; use {', '.join(sorted(_HIGHER | _LOWER))}")
    return [one for one in compared if one.name in wanted and one.is_worse(tolerance)]

"""Regret of a run: what the oracle would have taken, by the kind of query and the variant that was taken.

The oracle is that of `simulator.oracle` at the violations of the run. It takes variants for all queries of a kind in a
window of the trace; its choice for one of these is the variant that it takes most. A cost is the price of the worker
seconds that a query takes at the best batch size that its arrivals allow, so it compares variants and not batches.
Where workers are paid and idle, or free after the trace, several choices cost the oracle the same; one is shown.

The reason is the verdict on the oracle's choice, in the words of `explain` where it has them:

    chosen            it was taken
    is left to others: there are too many queries   the oracle misses such queries, and spends on others
    is not loaded     no worker served it at the last sample of the fleet
    a more accurate one is idle, ...                the selector gave a more accurate variant
    is overloaded     all slots of its hardware computed at the last sample
    costs more        its price for a query that is alone is higher, though it takes less by query of a batch
    had a free slot   none of these
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.hardware import CorePrice
from schemas.query import Mode
from selector.dispatch.explanation import CHOSEN, COSTS_MORE, GIVEN, LEFT_TO_OTHERS, NOT_LOADED
from selector.policy.variants import PricedVariant, size_class
from simulator.oracle.bound import OracleBound, oracle_cost
from simulator.oracle.slot_time import SlotTimeTable
from simulator.outcomes import NO_VARIANT, QueryOutcome
from simulator.simulation import SimulationResult
from simulator.summary import summarize
from simulator.trace import QueryKind

OVERLOADED: Final = "is overloaded"
HAD_SLOT: Final = "had a free slot"
_REASONS: Final = (CHOSEN, LEFT_TO_OTHERS, NOT_LOADED, GIVEN, OVERLOADED, COSTS_MORE, HAD_SLOT)
_Floats = NDArray[np.float64]
_Numbers = NDArray[np.integer[Any]]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegretRow:
    """Queries of one kind with the same fate, choice of the oracle, and reason."""

    kind: QueryKind
    outcome: QueryOutcome
    taken: str
    """Variant that was taken; empty if none was."""
    choice: str
    """Variant that the oracle takes; empty if it misses such queries."""
    why: str
    queries: int
    usd_per_1000: float
    """Cost of what was taken less the oracle's; NaN if either of the two did not answer in time."""


def regret_rows(result: SimulationResult) -> tuple[RegretRow, ...]:
    """Return the regret of the queries after the warm-up, with the most costly rows first, and misses before these.

    Raises:
        OperatorError: as `oracle_cost`.
    """
    scenario, columns = result.scenario, result.queries
    choices = _Choices(result, oracle_cost(scenario, summarize(result).violations))
    counted = np.flatnonzero(scenario.trace.time_s >= scenario.warm_up_s)
    kind, taken, outcome = scenario.trace.kind[counted], columns.variant[counted], columns.outcome[counted]
    choice, usd = choices.of(counted)
    usd[outcome != QueryOutcome.ANSWERED] = np.nan
    keys = np.stack([kind, taken, outcome, choice, choices.reasons(counted, choice)], axis=1)
    groups, row = np.unique(keys, axis=0, return_inverse=True)
    queries = np.bincount(row)
    mean_usd = np.bincount(row, usd) / queries
    names = [*(variant.name for variant in scenario.catalogue.variants), ""]
    found = [
        RegretRow(
            kind=scenario.trace.kinds[kind_of], taken=names[taken_of], outcome=QueryOutcome(outcome_of),
            choice=names[choice_of], why=_REASONS[reason], queries=count, usd_per_1000=1000 * mean,
        )
        for (kind_of, taken_of, outcome_of, choice_of, reason), count, mean in zip(
            groups.tolist(), queries.tolist(), mean_usd.tolist(), strict=True
        )
    ]  # fmt: skip
    return tuple(sorted(found, key=_order))


def _order(row: RegretRow) -> tuple[bool, float]:
    answered = row.outcome is QueryOutcome.ANSWERED
    return answered, -row.queries * (row.usd_per_1000 if answered and row.choice else 1.0)


class _Choices:
    """Choices of the oracle for the queries of a run."""

    def __init__(self, result: SimulationResult, bound: OracleBound) -> None:
        self._result = result
        self._bound = bound
        catalogue = result.scenario.catalogue
        self._hardware = [one.name for one in catalogue.hardware]
        self._price = {one.name: one.price_per_hour / 3600 for one in catalogue.hardware}
        self._table = SlotTimeTable(catalogue.variants, catalogue.hardware, result.scenario.workers.overhead_s)
        self._usd: dict[tuple[int, int], _Floats] = {}
        shape = bound.demand.queries.shape
        self._choice, most = np.full(shape, NO_VARIANT), np.zeros(shape)
        self._choice_usd = np.zeros(shape)
        satisfied = np.zeros(shape)
        for kind, window, variant, queries in bound.shares:
            place = kind, window
            satisfied[place] += queries
            self._choice_usd[place] += queries * float(self._usd_of(kind, variant)[window])
            if queries > most[place]:
                self._choice[place], most[place] = variant, queries
        self._choice_usd /= np.maximum(satisfied, 1e-12)
        rows, profiles = catalogue.rows()
        cores = {h.name: CorePrice.of(h.name, h.slots, h.threads, h.price_per_hour) for h in catalogue.hardware}
        priced = [PricedVariant(row, profiles[name], cores[row.hardware]) for name, row in rows.items()]
        self._prices = np.array(
            [
                [*(one.cost(size_class(kind.batch), kind.mode is Mode.OFFLINE) for one in priced), np.inf]
                for kind in result.scenario.trace.kinds
            ]
        )
        """Charged price by kind and variant; `NO_VARIANT`, the last one, has an infinite price."""

    def _usd_of(self, kind: int, variant: int) -> _Floats:
        """Return the cost of a query of a kind on a variant, by window."""
        found = self._usd.get((kind, variant))
        if found is None:
            one = self._result.scenario.catalogue.variants[variant]
            seconds = self._table.worker_s(variant, self._result.scenario.trace.kinds[kind])
            place = np.minimum(self._bound.demand.batch_limit[kind], len(seconds)) - 1
            found = self._usd[kind, variant] = seconds[place] * self._price[one.hardware]
        return found

    def of(self, queries: _Numbers) -> tuple[_Numbers, _Floats]:
        """Return the oracle's variant for each query, and the additional USD of what was taken."""
        trace, taken = self._result.scenario.trace, self._result.queries.variant[queries]
        kind, window = trace.kind[queries], self._bound.demand.window[queries]
        choice, usd = self._choice[kind, window], np.full(len(queries), np.nan)
        for kind_of, variant in np.unique(np.stack([kind, taken], axis=1), axis=0).tolist():
            if variant != NO_VARIANT:
                rows = (kind == kind_of) & (taken == variant) & (choice != NO_VARIANT)
                usd[rows] = self._usd_of(kind_of, variant)[window[rows]] - self._choice_usd[kind_of, window[rows]]
        return choice, usd

    def reasons(self, queries: _Numbers, choice: _Numbers) -> _Numbers:
        """Return the index of the reason of each query."""
        columns, trace = self._result.queries, self._result.scenario.trace
        taken = columns.variant[queries]
        loaded, full = self._fleet(trace.time_s[queries], choice)
        conditions: list[_Flags] = [
            (taken == choice) & (choice != NO_VARIANT),
            choice == NO_VARIANT,
            ~loaded,
            columns.upgraded[queries],
            full,
            self._prices[trace.kind[queries], choice] > self._prices[trace.kind[queries], taken],
        ]
        return np.select(conditions, list(range(len(conditions))), len(conditions))

    def _fleet(self, time_s: _Floats, variant: _Numbers) -> tuple[_Flags, _Flags]:
        """Return true for variants that served, and for full hardware, at the last sample."""
        samples, variants = self._result.samples, self._result.scenario.catalogue.variants
        place = np.maximum(np.searchsorted([sample.at_s for sample in samples], time_s, side="right") - 1, 0)
        serving = np.array([[one.name in sample.instances for one in variants] for sample in samples], np.bool_)
        full = np.array(
            [[sample.busy.get(name, 0.0) >= 1.0 for name in self._hardware] for sample in samples], np.bool_
        )
        hardware = np.array([self._hardware.index(one.hardware) for one in variants])
        return serving[place, variant], full[place, hardware[variant]]

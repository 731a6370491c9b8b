"""Program of the oracle bound.

Columns, for each hardware unless noted:
    satisfied    satisfied queries of a kind and window
    missed       other queries of a kind and window, for all hardware together
    entering     worker seconds of the satisfied queries of a window, by span
    computed     worker seconds of a span in a window; the last window is the time after the trace
    ready        workers at each edge of two windows
    started, ended   workers that become ready and that end in a window
    present      workers that are ready within a span
    paid         worker seconds in a window

Queries with equal spans share the rows that bind computation to arrivals: until the end of each window, all is computed
that entered a span ago, and nothing that has not entered.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.query import Mode
from simulator.catalogue import CatalogueHardware
from simulator.oracle.demand import WindowedDemand
from simulator.oracle.linear_program import INFINITE, Indices, LinearProgram, Solution, Term, Vector
from simulator.oracle.slot_time import SlotTimeTable
from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Best variant for each kind and window on each hardware; the arrays have one entry for each of these."""

    kind: Indices
    window: Indices
    hardware: Indices
    variant: Indices
    worker_s: Vector
    """Worker seconds of a query."""


def serving_options(scenario: Scenario, demand: WindowedDemand, table: SlotTimeTable) -> ServingOptions:
    """Return the options of all queries; a query that nothing can satisfy has none."""
    whole: list[list[Indices]] = [[], [], [], []]
    seconds: list[Vector] = []
    for kind, one in enumerate(scenario.trace.kinds):
        windows = np.flatnonzero(demand.queries[kind])
        for hardware, kept in enumerate(scenario.catalogue.hardware):
            times = table.of_hardware(one, kept.name)
            if times is None:
                continue
            place = np.minimum(demand.batch_limit[kind, windows], len(times.worker_s)) - 1
            able = np.isfinite(times.worker_s[place])
            place, count = place[able], int(able.sum())
            parts = (np.full(count, kind), windows[able], np.full(count, hardware), times.variant[place])
            for column, part in zip(whole, parts, strict=True):
                column.append(part)
            seconds.append(times.worker_s[place])
    kinds, columns, hardware_of, variants = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in whole)
    return ServingOptions(
        kind=kinds, window=columns, hardware=hardware_of, variant=variants,
        worker_s=np.concatenate([np.zeros(0), *seconds]),
    )  # fmt: skip


class _Fleet(NamedTuple):
    """Columns of the workers of one hardware."""

    started: Indices
    paid: Indices
    """Without the time after the trace, which is free."""
    start_usd: Vector
    """Price of a start in each window."""
    usd_per_s: float


class OracleProgram:
    """Program of one scenario."""

    def __init__(self, scenario: Scenario, demand: WindowedDemand, table: SlotTimeTable) -> None:
        self._scenario = scenario
        self.demand = demand
        self._program = LinearProgram()
        self.options = serving_options(scenario, demand, table)
        self.satisfied = self._program.add_columns(len(self.options.kind))
        self._kinds, self._windows = np.nonzero(demand.queries)
        self.missed = self._program.add_columns(len(self._kinds))
        self._add_demand()
        self._fleets = [self._add_hardware(n, one) for n, one in enumerate(scenario.catalogue.hardware)]

    @cached_property
    def online(self) -> float:
        """Number of online queries."""
        return float(self.demand.queries[~self._is_offline].sum())

    def limit_missed(self, violations: float) -> None:
        """Miss at most this share of the online queries, and no offline one."""
        offline = self._is_offline[self._kinds]
        self._program.add_rows(1, -INFINITE, violations * self.online, Term(0, self.missed[~offline]))
        self._program.add_rows(1, -INFINITE, 0.0, Term(0, self.missed[offline]))

    def limit_cost(self, usd: float) -> None:
        """Pay at most `usd`."""
        self._program.add_rows(1, -INFINITE, usd, Term(0, *self._cost_terms()))

    def least_cost(self) -> Solution:
        """Minimise the cost in USD."""
        return self._program.solve(*self._cost_terms())

    def least_missed(self) -> Solution:
        """Minimise the missed online queries."""
        return self._program.solve(self.missed[~self._is_offline[self._kinds]], 1.0)

    @cached_property
    def _is_offline(self) -> NDArray[np.bool_]:
        return np.array([kind.mode is Mode.OFFLINE for kind in self._scenario.trace.kinds], np.bool_)

    def _cost_terms(self) -> tuple[Indices, Vector]:
        """Return the columns that cost, with their prices in USD."""
        columns = [part for fleet in self._fleets for part in (fleet.paid, fleet.started)]
        usd = [part for f in self._fleets for part in (np.full(len(f.paid), f.usd_per_s), f.start_usd)]
        return np.concatenate(columns), np.concatenate(usd)

    def _add_demand(self) -> None:
        """Each query is satisfied or missed."""
        row = np.full(self.demand.queries.shape, -1)
        row[self._kinds, self._windows] = np.arange(len(self.missed))
        wanted = self.demand.queries[self._kinds, self._windows]
        options = row[self.options.kind, self.options.window]
        self._program.add_rows(
            len(wanted), wanted, wanted, Term(options, self.satisfied), Term(np.arange(len(wanted)), self.missed)
        )

    # -- hardware ------------------------------------------------------------------------------------------------------

    def _add_hardware(self, number: int, hardware: CatalogueHardware) -> _Fleet:
        scenario, demand, program = self._scenario, self.demand, self._program
        mine = np.flatnonzero(self.options.hardware == number)
        spans = demand.span[self.options.kind[mine]]
        most = max(hardware.maximum, scenario.fleet.get(hardware.name, 0))
        ready, started, paid = self._add_workers(most)
        last = program.add_columns(1, most * scenario.drain_s)
        every = np.concatenate([paid, last])
        rows, computed = np.arange(len(every)), list[Term]()
        for span in np.unique(spans).tolist():
            options = mine[spans == span]
            computed.append(Term(rows, self._add_span(options, span), -1.0))
            self._require_worker(options, span, ready, started)
        program.add_rows(len(rows), 0.0, INFINITE, Term(rows, every), *computed)
        usd_per_s = hardware.price_per_hour / 3600
        loads = [v.load_s for v in scenario.catalogue.variants if v.hardware == hardware.name]
        start_s = np.minimum(hardware.start_s + min(loads, default=0.0), np.arange(len(paid)) * demand.window_s)
        return _Fleet(started, paid, usd_per_s * start_s, usd_per_s)

    def _add_span(self, options: Indices, span: int) -> Indices:
        """Add the computation of the queries with a span; return its columns by window."""
        windows, program = self.demand.windows, self._program
        entering, computed = program.add_columns(windows), program.add_columns(windows + 1)
        rows, last = np.arange(windows), windows - 1
        served = Term(self.options.window[options], self.satisfied[options], self.options.worker_s[options])
        program.add_rows(windows, 0.0, 0.0, served, Term(rows, entering, -1.0))
        # Work that has entered and is not computed, at the end of each window.
        waiting = program.add_columns(windows)
        before = (Term(rows[1:], waiting[:-1], -1.0), Term(rows, entering, -1.0), Term(rows, computed[:-1]))
        program.add_rows(windows, 0.0, 0.0, Term(rows, waiting), *before)
        program.add_rows(1, 0.0, 0.0, Term(0, waiting[last]), Term(0, computed[-1], -1.0))
        if span < windows:
            recent = [Term(rows[shift:], entering[: windows - shift]) for shift in range(span)]
            program.add_rows(windows, 0.0, INFINITE, Term(rows, waiting, -1.0), *recent)
        return computed

    def _require_worker(self, options: Indices, span: int, ready: Indices, started: Indices) -> None:
        """A query needs a whole worker that is ready in its window or becomes so until its deadline."""
        windows, program = self.demand.windows, self._program
        options = options[self.options.window[options] < windows - span]
        count = max(windows - span, 0)
        window = np.arange(count)
        present = program.add_columns(count)
        becoming = [Term(window, started[shift : count + shift], -1.0) for shift in range(span + 1)]
        program.add_rows(count, 0.0, 0.0, Term(window, present), Term(window, ready[:count], -1.0), *becoming)
        group, row = np.unique(
            self._alternatives()[options] * windows + self.options.window[options], return_inverse=True
        )
        queries = self.demand.queries[self.options.kind[options], self.options.window[options]]
        most = np.bincount(row, queries, len(group))
        needed = Term(np.arange(len(group)), present[group % windows], -most)
        program.add_rows(len(group), -INFINITE, 0.0, Term(row, self.satisfied[options]), needed)

    def _alternatives(self) -> Indices:
        """Return a number for the set of hardware that can satisfy an option's queries."""
        options, sets = self.options, np.zeros(self.demand.queries.shape, np.int64)
        np.add.at(sets, (options.kind, options.window), 1 << options.hardware)
        return sets[options.kind, options.window]

    def _add_workers(self, most: int) -> tuple[Indices, Indices, Indices]:
        """Return the columns of the workers that are ready at each edge and become ready, and of the paid seconds."""
        windows, window_s, program = self.demand.windows, self.demand.window_s, self._program
        rows = np.arange(windows)
        ready, paid = program.add_columns(windows + 1, most), program.add_columns(windows, most * window_s)
        started, ended = program.add_columns(windows), program.add_columns(windows)
        edges = (Term(rows, ready[1:]), Term(rows, ready[:-1], -1.0))
        program.add_rows(windows, 0.0, 0.0, *edges, Term(rows, started, -1.0), Term(rows, ended))
        here = (Term(rows, ready[:-1], window_s), Term(rows, paid, -1.0))
        program.add_rows(windows, 0.0, INFINITE, *here, Term(rows, started, window_s))
        program.add_rows(windows, -INFINITE, 0.0, *here, Term(rows, ended, -window_s))
        return ready, started, paid

"""Oracle bound of a scenario: the least cost by violations, and the fewest violations by cost."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from simulator.oracle.demand import WindowedDemand, demand_of
from simulator.oracle.linear_program import Vector
from simulator.oracle.program import OracleProgram
from simulator.oracle.slot_time import SlotTimeTable
from simulator.scenario import Scenario

_LEAST_QUERIES: Final = 1e-6


class OracleShare(NamedTuple):
    """Queries of a kind and window that the oracle satisfies with one variant."""

    kind: int
    """Index in the trace's kinds."""
    window: int
    variant: int
    """Index in the catalogue's variants."""
    queries: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleBound:
    """Lower bound of the cost, and the choices of the solution."""

    usd: float
    """Least cost; infinite if no system misses so few queries."""
    demand: WindowedDemand
    shares: tuple[OracleShare, ...]


def oracle_cost(scenario: Scenario, violations: float) -> OracleBound:
    """Return the least cost of a system that misses at most this share of the online queries.

    All offline queries must be answered until the end of the simulation. `simulator.oracle` has the relaxations and the
    proof.

    Raises:
        OperatorError: the p99 of a variant is so far from its p50 that the bound is not proven.
    """
    program = _program(scenario)
    program.limit_missed(violations)
    found = program.least_cost()
    return OracleBound(usd=found.objective, demand=program.demand, shares=_shares(program, found.values))


def oracle_violations(scenario: Scenario, usd: float) -> float:
    """Return the least share of the online queries that a system misses at a cost of at most `usd`.

    Offline queries need not be answered. Raises as `oracle_cost`.
    """
    program = _program(scenario)
    program.limit_cost(usd)
    return max(program.least_missed().objective, 0.0) / max(program.online, 1.0)


def _program(scenario: Scenario) -> OracleProgram:
    catalogue = scenario.catalogue
    table = SlotTimeTable(catalogue.variants, catalogue.hardware, scenario.workers.overhead_s)
    return OracleProgram(scenario, demand_of(scenario), table)


def _shares(program: OracleProgram, values: Vector) -> tuple[OracleShare, ...]:
    if not len(values):
        return ()
    options, queries = program.options, values[program.satisfied].tolist()
    rows = zip(options.kind.tolist(), options.window.tolist(), options.variant.tolist(), queries, strict=True)
    return tuple(OracleShare(*row) for row in rows if row[3] > _LEAST_QUERIES)

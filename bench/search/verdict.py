"""Verdict on a case: the figures of the production policy beside those of baselines and of the oracle's bound."""

from functools import partial
from math import inf, isfinite, nan
from typing import Final, NamedTuple

import numpy as np

from bench.search.audit import audited_selector
from bench.search.case import SearchCase
from schemas.errors import InfaasError
from simulator.baselines.individual import IndividualSystem
from simulator.baselines.static import StaticSystem
from simulator.oracle.bound import oracle_cost, oracle_violations
from simulator.outcomes import QueryOutcome
from simulator.scenario import Scenario
from simulator.services.infaas import InfaasSystem
from simulator.simulation import SimulationResult, simulate
from simulator.summary import Summary, summarize

_FEW: Final = 0.003
"""Violations below which baselines are not simulated."""
_CHEAPER: Final = 1.05
"""A baseline counts if it costs at most this ratio of the policy's cost."""


class CaseVerdict(NamedTuple):
    """Figures of one case."""

    case: SearchCase
    error: str = ""
    """Broken invariant or other error; empty if there is none."""
    queries: int = 0
    violations: float = 0.0
    usd_per_hour: float = 0.0
    baseline: float = nan
    """Fewest violations of STATIC and INDV at no higher cost; NaN: neither is as cheap."""
    oracle: float = nan
    """Fewest violations of any system at that cost."""
    bound: float = nan
    """Price over the least price of any system with as few violations."""
    in_vain: float = 0.0
    """Share of the online queries that were refused although an instance was idle that would have been in time."""
    starved: float = 0.0
    """Share of the queries without a deadline that were refused, or not answered a minute after the last arrival."""


def judge(case: SearchCase) -> CaseVerdict:
    """Simulate a case with the production policy, and with others if it violates deadlines."""
    refused_in_vain: list[int] = []
    try:
        scenario = case.scenario()
        result = simulate(scenario, partial(InfaasSystem, selector=audited_selector(refused_in_vain)))
    except (InfaasError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        return CaseVerdict(case, f"{type(error).__name__}: {error}")
    figures, online = summarize(result), max(int(scenario.trace.is_online.sum()), 1)
    found = CaseVerdict(
        case, queries=figures.queries, violations=figures.violations, usd_per_hour=figures.usd_per_hour,
        in_vain=len(refused_in_vain) / online, starved=_starved(result),
    )  # fmt: skip
    bound = oracle_cost(scenario, figures.violations).usd
    found = found._replace(bound=figures.usd / bound if bound else nan)
    if figures.violations < _FEW:
        return found
    return found._replace(baseline=_baseline(scenario, figures), oracle=oracle_violations(scenario, figures.usd))


def _baseline(scenario: Scenario, figures: Summary) -> float:
    others = [summarize(simulate(scenario, system)) for system in (StaticSystem, IndividualSystem)]
    as_cheap = [other.violations for other in others if other.usd <= figures.usd * _CHEAPER]
    return min(as_cheap, default=nan)


def _starved(result: SimulationResult) -> float:
    trace, outcome = result.scenario.trace, result.queries.outcome
    timed = np.array([kind.latency_ms is not None for kind in trace.kinds])[trace.kind]
    patient = ~timed & (trace.time_s >= result.scenario.warm_up_s)
    missed = patient & (outcome != QueryOutcome.ANSWERED)
    return float(missed.sum() / max(patient.sum(), 1))


def excess(verdict: CaseVerdict) -> float:
    """Return the violations beyond the better of the baselines, or beyond the oracle if these are dearer."""
    beside = verdict.oracle if np.isnan(verdict.baseline) else verdict.baseline
    return verdict.violations - beside if verdict.violations >= _FEW else 0.0


def overspending(verdict: CaseVerdict) -> float:
    """Return the price over that of the oracle."""
    return verdict.bound if isfinite(verdict.bound) else 0.0


def insanity(verdict: CaseVerdict) -> float:
    """Return the share of queries that were treated against a promise; infinite after an error."""
    return inf if verdict.error else verdict.in_vain + verdict.starved

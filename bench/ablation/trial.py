"""A trial: one simulation of a workload, with or without a mechanism, and its figures."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.ablation.inventory import MECHANISMS
from bench.ablation.mechanism import with_setting
from bench.ablation.workloads import WORKLOADS
from simulator.outcomes import QueryOutcome
from simulator.simulation import SimulationResult, simulate
from simulator.summary import summarize


class AblationTrial(NamedTuple):
    """Simulation to run."""

    workload: str
    seed: int
    mechanism: str = ""
    """Mechanism to leave out; empty: none."""
    setting: str = ""
    """Path of a setting to change; empty: none."""
    value: float = 0.0

    @property
    def change(self) -> str:
        """Name of the change; empty for an unchanged workload."""
        return self.mechanism or (f"{self.setting} = {self.value:g}" if self.setting else "")


class AblationFigures(NamedTuple):
    """Figures of a simulation."""

    violations: float
    """Share of the online queries that were not answered in time."""
    worst_tenant: float
    """The same of the tenant with the most."""
    p99_ms: float
    """0 without an answer, as is the accuracy."""
    accuracy: float
    usd_per_hour: float
    offline: float
    """Share of the offline queries that were answered, of the tenant with the lowest; 1 without any."""


def run_trial(trial: AblationTrial) -> AblationFigures:
    """Simulate a trial."""
    scenario = WORKLOADS[trial.workload].scenario(trial.seed)
    if trial.setting:
        scenario = with_setting(scenario, trial.setting, trial.value)
    if not trial.mechanism:
        return figures_of(simulate(scenario))
    mechanism = MECHANISMS[trial.mechanism]
    with mechanism.left_out():
        return figures_of(simulate(mechanism.changed(scenario)))


def figures_of(result: SimulationResult) -> AblationFigures:
    """Return the figures of a simulation."""
    summary = summarize(result)
    trace = result.scenario.trace
    counted, in_time = trace.time_s >= result.scenario.warm_up_s, result.queries.outcome == QueryOutcome.ANSWERED
    tenants = np.array([kind.tenant or "" for kind in trace.kinds])[trace.kind]
    online, offline = counted & trace.is_online, counted & ~trace.is_online

    def shares(rows: NDArray[np.bool_]) -> list[float]:
        return [float(in_time[rows & (tenants == name)].mean()) for name in np.unique(tenants[rows])]

    return AblationFigures(
        violations=summary.violations,
        worst_tenant=1.0 - min(shares(online)),
        p99_ms=float(np.nan_to_num(summary.p99_ms)),
        accuracy=float(np.nan_to_num(summary.accuracy)),
        usd_per_hour=summary.usd_per_hour,
        offline=min(shares(offline), default=1.0),
    )

"""Scenarios of a calibration: loads and faults in proportion to the capacity of the fleet that is found."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from schemas.query import Mode
from simulator.calibration.task_load import TaskLoad
from simulator.scenario import FaultKind, InflictedFault
from simulator.trace import QueryKind, Trace
from simulator.workloads.gamma import GammaRenewal
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.poisson import Poisson
from simulator.workloads.steps import RateSteps
from simulator.workloads.workload import AnyProcess, QueryStream, Workload, generate

_SEED: Final = 26
_PROBE: Final = 0.3
"""Load of the probe over the capacity."""
_PROBE_CV: Final = 0.5
_PROBE_SEED: Final = 1
_BURSTINESS: Final = 3.0
"""Coefficient of variation of the gaps between bursty arrivals."""
_OVERLOAD: Final = 2.5
_FLOOD_S: Final = 0.05
"""Share of a scenario's time in which the offline queries arrive."""
_FLOOD: Final = 0.4
"""Computation of all offline queries over the time of the scenario."""
_LOOSE: Final = 2.0
"""Latency objective of queries with loose needs over that of the others."""


class CalibrationScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Load and faults to be played on a real system, and simulated."""

    name: str
    about: str
    trace: Trace
    faults: tuple[InflictedFault, ...] = ()
    via_gateway: bool = False
    """True if queries are sent over HTTP; otherwise clients write to Kafka."""


def calibration_scenarios(loads: Sequence[TaskLoad], growth: float, seconds: float) -> list[CalibrationScenario]:
    """Return all scenarios.

    Args:
        loads: tasks with the rates that the present fleet can answer, the slowest task first.
        growth: capacity of the largest fleet that may run over that of the present one.
        seconds: duration of each scenario.
    """
    first, a_third = loads[0], seconds / 3
    death = InflictedFault(kind=FaultKind.WORKER_DIES, at_s=a_third)

    def one(name: str, about: str, *streams: QueryStream, **fields: Any) -> CalibrationScenario:
        trace = generate(Workload(streams=streams), _SEED).cut(0.0, seconds)
        return CalibrationScenario(name=name, about=about, trace=trace, **fields)

    def steady(share: float, load: TaskLoad = first) -> QueryStream:
        return _stream(Poisson(rate=share * load.per_s), load.kind, seconds)

    steps = RateSteps(rates=(0.3 * first.per_s, 1.2 * first.per_s), lengths=(a_third, 2 * a_third))
    bursts = GammaRenewal(rate=0.5 * first.per_s, cv=_BURSTINESS)
    return [
        one("low", "10 % of the capacity", steady(0.1)),
        one("half", "50 % of the capacity", steady(0.5)),
        one("busy", "80 % of the capacity", steady(0.8)),
        one("bursts", f"50 %, in bursts (gaps of CV {_BURSTINESS:g})", _stream(bursts, first.kind, seconds)),
        one("step", "30 %, from a third of the time on 120 %", _stream(steps, first.kind, seconds)),
        one("overload", f"{_OVERLOAD:g} times the capacity of the largest fleet", steady(_OVERLOAD * growth)),
        one("death", "40 %; a worker is killed after a third of the time", steady(0.4), faults=(death,)),
        one("flood", "30 %, and many offline queries at once", steady(0.3), _flood(first, seconds)),
        one("mix", "two tasks, half of the queries with loose needs", *_mixed(loads, seconds)),
        one("gateway", "50 %, over HTTP", steady(0.5), via_gateway=True),
    ]


def probe_scenario(loads: Sequence[TaskLoad], seconds: float) -> CalibrationScenario:
    """Return the scenario whose delays are measured: evenly spread arrivals of all tasks at a moderate rate."""
    share = _PROBE / len(loads)
    streams = tuple(_stream(GammaRenewal(rate=share * load.per_s, cv=_PROBE_CV), load.kind, seconds) for load in loads)
    trace = generate(Workload(streams=streams), _PROBE_SEED)
    return CalibrationScenario(name="probe", about="measurement of delays", trace=trace)


def _stream(arrivals: AnyProcess, kind: QueryKind, seconds: float, *others: QueryKind) -> QueryStream:
    kinds = tuple(KindTemplate(**msgspec.structs.asdict(one)) for one in (kind, *others))
    return QueryStream(arrivals=arrivals, mix=Mix(kinds=kinds), seconds=seconds)


def _flood(load: TaskLoad, seconds: float) -> QueryStream:
    arrivals = Poisson(rate=_FLOOD * load.per_s / _FLOOD_S)
    kind = replace(load.kind, mode=Mode.OFFLINE, latency_ms=None)
    return replace(_stream(arrivals, kind, _FLOOD_S * seconds), start=0.1 * seconds)


def _mixed(loads: Sequence[TaskLoad], seconds: float) -> list[QueryStream]:
    used = loads[:2]
    return [
        _stream(
            Poisson(rate=0.5 / len(used) * load.per_s),
            load.kind,
            seconds,
            replace(load.kind, latency_ms=_LOOSE * (load.kind.latency_ms or 0.0), min_accuracy=None, batch=1),
        )
        for load in used
    ]

"""Workloads of the comparison: arrivals by name, each with the same mixed needs of several tasks.

Loads of one or two workers have queries of one input. Loads of about ten and forty workers have queries of 1 to 16
inputs, 6 on average, and equal shares of five tasks; so a simulation has a tenth of the queries.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from simulator.scenario_file import ScenarioFile, convert_scenario

_NEEDS: Final = {
    "image-classification": (
        {"latency_ms": 60, "min_accuracy": 0.70, "weight": 4},
        {"latency_ms": 150, "min_accuracy": 0.76, "weight": 3},
        {"latency_ms": 500, "min_accuracy": 0.80, "weight": 2},
        {"latency_ms": 300, "min_accuracy": 0.84, "weight": 1},
    ),
    "text-classification": (
        {"latency_ms": 100, "min_accuracy": 0.88, "weight": 3},
        {"latency_ms": 300, "min_accuracy": 0.92, "weight": 1},
    ),
    "question-answering": ({"latency_ms": 300, "min_accuracy": 0.85},),
    "object-detection": ({"latency_ms": 200, "min_accuracy": 0.45},),
    "speech-recognition": ({"latency_ms": 1000, "min_accuracy": 0.9},),
}
"""Needs of each task's queries, with their weights."""
_TWO: Final = {"image-classification": 0.7, "text-classification": 0.3}
_EQUAL: Final = dict.fromkeys(_NEEDS, 0.2)
_ZIPF: Final = dict(zip(_NEEDS, (0.438, 0.219, 0.146, 0.109, 0.088), strict=True))
"""Shares of tasks by Zipf's law with exponent 1."""
_SIZES: Final = {"sizes": "geometric", "mean": 6, "most": 16}
TEN: Final = 400.0
"""Queries a second that take about ten workers."""
LOW: Final = 4.0
"""Queries a second of a low load: the one of INFaaS's evaluation."""
_MANY_WARM_UP_S: Final = 60.0
_DAY_S: Final = 150.0
_LONG_DAY_S: Final = 600.0
_TEN_FLEET: Final = {"cpu": 1, "t4": 4, "inf1": 1}
_FORTY_FLEET: Final = {"cpu": 1, "t4": 16, "inf1": 4}


class ComparedLoad(NamedTuple):
    """Load of a workload, and the fleet at its start."""

    streams: list[dict[str, Any]]
    fleet: Mapping[str, int] = {"cpu": 1}
    warm_up_s: float = 300.0


def _stream(arrivals: dict[str, Any], task: str, seconds: float, sizes: dict[str, Any] | None, **rest: Any) -> Any:
    mix: dict[str, Any] = {"kinds": [kind | {"task": task} for kind in _NEEDS[task]]}
    return {"arrivals": arrivals, "seconds": seconds, "mix": mix | ({"batches": sizes} if sizes else {})} | rest


def _few(process: str, rate: float, tasks: Mapping[str, float] = _TWO, seconds: float = 600) -> ComparedLoad:
    """Return a load of one or two workers."""
    return ComparedLoad(
        [_stream(_arrivals(process, share * rate, _LONG_DAY_S), task, seconds, None) for task, share in tasks.items()]
    )


def _many(
    process: str, rate: float = TEN, tasks: Mapping[str, float] = _EQUAL, seconds: float = 150, day_s: float = _DAY_S
) -> ComparedLoad:
    """Return a load of many workers; a diurnal one has days of `day_s`."""
    streams = [_stream(_arrivals(process, share * rate, day_s), task, seconds, _SIZES) for task, share in tasks.items()]
    return ComparedLoad(streams, _TEN_FLEET if rate < 2 * TEN else _FORTY_FLEET, _MANY_WARM_UP_S)


def _published(name: str, speed: float, seconds: float = 150) -> ComparedLoad:
    """Return a published trace for each of the five tasks at once."""
    streams = [_stream({"process": name}, task, seconds, _SIZES, speed=speed) for task in _NEEDS]
    return ComparedLoad(streams, _TEN_FLEET, _MANY_WARM_UP_S)


def _arrivals(process: str, rate: float, day_s: float) -> dict[str, Any]:
    match process:
        case "bursty":
            return {"process": "markov", "rates": [rate / 2, rate * 2], "means": [40, 20]}
        case "diurnal":
            return {"process": "diurnal", "rate": rate, "amplitude": 0.8, "period": day_s}
        case "low after a peak":
            return {"process": "steps", "rates": [rate, rate * LOW / TEN], "lengths": [60, 600]}
        case "servegen":
            return {"process": "servegen", "scale": rate / 3400, "offset": 36_000}
        case _:
            return {"process": "poisson", "rate": rate}


_LOADS: Final[Mapping[str, ComparedLoad]] = {
    "low load": _few("poisson", LOW),
    "flat": _few("poisson", 150),
    "bursty": _few("bursty", 75),
    "diurnal": _few("diurnal", 75, seconds=900),
    "Zipf, 5 tasks": _few("poisson", 100, _ZIPF),
    "flat, 10 workers": _many("poisson"),
    "bursty, 10 workers": _many("bursty"),
    "diurnal, 10 workers": _many("diurnal", seconds=_MANY_WARM_UP_S + _LONG_DAY_S, day_s=_LONG_DAY_S),
    "Zipf, 10 workers": _many("poisson", 1.7 * TEN, _ZIPF),
    "Azure code, 4 times its speed": _published("azure-code-2023", 4, seconds=300),
    "Azure code, 12 times its speed": _published("azure-code-2023", 12),
    "Azure conversation, 12 times its speed": _published("azure-conv-2023", 12),
    "Azure conversation, 24 times its speed": _published("azure-conv-2023", 24, seconds=145),
    "Mooncake, 16 times its speed": _published("mooncake-conversation-2025", 16),
    "ServeGen, a tenth of its rate": _many("servegen"),
    "flat, 40 workers": _many("poisson", 4 * TEN, seconds=120),
    "bursty, 40 workers": _many("bursty", 4 * TEN),
    "diurnal, 40 workers": _many("diurnal", 4 * TEN, seconds=_MANY_WARM_UP_S + 300, day_s=300),
}
WORKLOADS: Final = tuple(_LOADS)
"""Workloads with a fleet that every system scales."""
AFTER_PEAK: Final = "low after a peak"
AFTER_PEAK_SEEDS: Final = 8
"""Seeds of the low load after a peak: the worker that remains differs by seed, and its price with it."""
_AFTER_PEAK: Final = _many(AFTER_PEAK, seconds=660)._replace(warm_up_s=300.0)


def scenario(workload: str, system: str, seed: int, **rest: Any) -> ScenarioFile:
    """Return the scenario of a workload on the shipped catalogue; `rest` are other fields of a scenario file."""
    return _scenario(_AFTER_PEAK if workload == AFTER_PEAK else _LOADS[workload], system, seed, rest)


class FixedHardware(NamedTuple):
    """Workers of a comparison on fixed hardware, and its tasks with their shares of the queries."""

    workers: Mapping[str, int]
    tasks: Mapping[str, float]

    def __str__(self) -> str:
        """Return the workers in words."""
        return ", ".join(f"{count} {name}" for name, count in self.workers.items() if count)


FIXED: Final[Mapping[str, FixedHardware]] = {
    "five tasks": FixedHardware({"cpu": 2, "v100": 0, "t4": 4, "a10g": 0, "inf1": 4}, _EQUAL),
    "language tasks": FixedHardware(
        {"cpu": 1, "v100": 0, "t4": 1, "a10g": 0, "inf1": 1},
        {"question-answering": 0.5, "text-classification": 0.5},
    ),
}
"""Two of the five tasks have variants that are fast enough on T4 alone, all language tasks also on Inferentia."""


def bounded_scenario(process: str, rate: float, system: str, seed: int, fixed: FixedHardware) -> ScenarioFile:
    """Return the scenario of a load on a fixed fleet, all of which runs from the start."""
    hardware = fixed.workers
    load = _many(process, rate, fixed.tasks, seconds=90 if process == "poisson" else 180)
    load = load._replace(fleet=hardware, warm_up_s=45.0)
    pins = [{"kind": "hardware", "name": name, "minimum": count} for name, count in hardware.items() if count]
    return _scenario(load, system, seed, {"maximum": dict(hardware), "scaling": {"pins": pins}})


def _scenario(load: ComparedLoad, system: str, seed: int, rest: Mapping[str, Any]) -> ScenarioFile:
    document: dict[str, Any] = {"workload": {"streams": load.streams}, "catalogue": "infaas-44x270", "system": system}
    return convert_scenario(document | {"fleet": load.fleet, "warm_up_s": load.warm_up_s, "seed": seed} | dict(rest))

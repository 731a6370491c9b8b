"""Workloads of the comparison: arrivals by name, each with the same mixed needs of several tasks."""

from collections.abc import Mapping
from typing import Any, Final

from simulator.scenario_file import ScenarioFile, convert_scenario

SEED: Final = 11
"""First of the seeds that are reported. The policy was tuned on seed 0, with the same kinds of workloads."""
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
_ZIPF: Final = dict(zip(_NEEDS, (0.438, 0.219, 0.146, 0.109, 0.088), strict=True))
"""Shares of tasks by Zipf's law with exponent 1."""


def _poisson(share: float, rate: float) -> dict[str, Any]:
    return {"arrivals": {"process": "poisson", "rate": share * rate}, "seconds": 900}


def _bursty(share: float) -> dict[str, Any]:
    rates = [share * 50, share * 400]
    return {"arrivals": {"process": "markov", "rates": rates, "means": [60, 15]}, "seconds": 900}


def _diurnal(share: float) -> dict[str, Any]:
    arrivals = {"process": "diurnal", "rate": share * 150, "amplitude": 0.8, "period": 900}
    return {"arrivals": arrivals, "seconds": 1200}


_STREAMS: Final[Mapping[str, list[dict[str, Any]]]] = {
    "low load": [_poisson(share, 4) | {"mix": {"task": task}} for task, share in _TWO.items()],
    "flat": [_poisson(share, 150) | {"mix": {"task": task}} for task, share in _TWO.items()],
    "bursty": [_bursty(share) | {"mix": {"task": task}} for task, share in _TWO.items()],
    "diurnal": [_diurnal(share) | {"mix": {"task": task}} for task, share in _TWO.items()],
    "Zipf, 5 tasks": [_poisson(share, 100) | {"mix": {"task": task}} for task, share in _ZIPF.items()],
    "Azure code, 4 times its speed": [
        {"arrivals": {"process": "azure-code-2023"}, "speed": 4, "mix": {"task": task}} for task in _TWO
    ],
}
WORKLOADS: Final = tuple(_STREAMS)


def scenario(workload: str, system: str, seed: int = SEED) -> ScenarioFile:
    """Return the scenario of a workload: the shipped catalogue, one CPU worker at the start, a warm-up of 300 s."""
    streams = [_with_needs(stream) for stream in _STREAMS[workload]]
    document = {"workload": {"streams": streams}, "catalogue": "infaas-44x270", "system": system, "seed": seed}
    return convert_scenario(document | {"fleet": {"cpu": 1}, "warm_up_s": 300})


def _with_needs(stream: dict[str, Any]) -> dict[str, Any]:
    task = stream["mix"]["task"]
    return stream | {"mix": {"kinds": [kind | {"task": task} for kind in _NEEDS[task]]}}

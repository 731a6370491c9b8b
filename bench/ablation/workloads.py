"""Workloads of the ablation: each produces a situation that some mechanisms were made for.

Fleets are small and the times short, so that the whole table runs within the half hour. Fixed fleets are of the shipped
catalogue's CPU workers. Autoscaled ones consist of workers of one slot, so that a few queries a second need several.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from bench.ablation.mechanism import Area
from simulator.catalogue import Catalogue
from simulator.scenario import Scenario
from simulator.scenario_file import convert_scenario

_IMAGES: Final = "image-classification"
_FAST: Final = {"task": _IMAGES, "latency_ms": 150, "min_accuracy": 0.70, "weight": 6}
_MEDIUM: Final = {"task": _IMAGES, "latency_ms": 300, "min_accuracy": 0.80, "weight": 3}
_ACCURATE: Final = {"task": _IMAGES, "latency_ms": 500, "min_accuracy": 0.82, "weight": 1}
_MIXED: Final = [_FAST, _MEDIUM, _ACCURATE]
_PLACED: Final = ("efficientnet-b0.onnx-int8.cpu", "resnet50.onnx-int8.cpu", "efficientnet-b4.onnx-int8.cpu")
"""Variants of fixed fleets: one for each of the mixed needs. A CPU worker computes 196 queries of this mix a second."""
_ARCHITECTURES: Final = frozenset(
    {"mobilenet-v2", "efficientnet-b0", "efficientnet-b4", "resnet50", "regnet-y-3-2gf", "bert-mini", "distilbert"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationWorkload:
    """Scenario of the ablation, and the areas whose mechanisms it may need."""

    name: str
    areas: frozenset[Area]
    document: dict[str, Any]
    """Scenario file without a seed."""
    hardware: dict[str, dict[str, Any]] = field(default_factory=lambda: {"cpu": {}})
    """Hardware of the catalogue that is used, with changed fields."""
    architectures: frozenset[str] = _ARCHITECTURES
    """Architectures of the catalogue that are used."""

    def scenario(self, seed: int) -> Scenario:
        """Draw the scenario for a seed."""
        found = convert_scenario({"catalogue": "infaas-44x270"} | self.document).scenario(seed)
        return replace(found, catalogue=self._pruned(found))

    def _pruned(self, scenario: Scenario) -> Catalogue:
        tasks = {kind.task for kind in scenario.trace.kinds}
        found = scenario.catalogue.of_hardware(self.hardware)
        return replace(
            found,
            hardware=tuple(replace(one, **self.hardware[one.name]) for one in found.hardware),
            variants=tuple(
                one for one in found.variants if one.task in tasks and one.architecture in self.architectures
            ),
        )


# -- fixed fleets ------------------------------------------------------------------------------------------------------


def _stream(
    arrivals: dict[str, Any], seconds: float, kinds: list[dict[str, Any]], *, start: float = 0.0, **mix: Any
) -> dict[str, Any]:
    return {"arrivals": arrivals, "seconds": seconds, "start": start, "mix": {"kinds": kinds} | mix}


def _poisson(rate: float, seconds: float, kinds: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return _stream({"process": "poisson", "rate": rate}, seconds, kinds, **rest)


def _of_tenant(tenant: str) -> list[dict[str, Any]]:
    return [kind | {"tenant": tenant} for kind in _MIXED]


def _fixed(streams: list[dict[str, Any]], workers: int = 2, **fields: Any) -> dict[str, Any]:
    """Return a document with the placed variants on each of `workers` CPU workers, and no scaling."""
    document = {
        "workload": {"streams": streams},
        "fleet": {"cpu": workers},
        "placed": dict.fromkeys(_PLACED, workers),
        "scaling": {"enabled": False},
        "warm_up_s": 5,
        "drain_s": 5,
    }
    return document | fields


_BURSTS: Final = {"process": "markov", "rates": [200, 650], "means": [5, 1.5]}
_FLOOD: Final = [_MEDIUM | {"mode": "offline", "latency_ms": None, "tenant": "globex"}]
_LATER: Final = [_MEDIUM | {"mode": "offline", "latency_ms": None, "tenant": "acme"}]
_UNLOADED: Final = [_LATER[0] | {"target": "regnet-y-3-2gf"}]
_LARGE: Final = {"task": _IMAGES, "latency_ms": 10_000, "min_accuracy": 0.70}

_FIXED: Final = (
    AblationWorkload(
        name="90 % load",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.UPGRADES, Area.WORKER}),
        document=_fixed([_poisson(350, 30, _MIXED)]),
    ),
    AblationWorkload(
        name="bursts",
        areas=frozenset({Area.UPGRADES, Area.OVERLOAD}),
        document=_fixed([_stream(_BURSTS, 40, _MIXED)]),
    ),
    AblationWorkload(
        name="overload x1.6",
        areas=frozenset({Area.CHOICE, Area.OVERLOAD, Area.WORKER}),
        document=_fixed([_poisson(640, 20, _MIXED)]),
    ),
    AblationWorkload(
        name="overload by one of two tenants",
        areas=frozenset({Area.OVERLOAD}),
        document=_fixed([_poisson(600, 25, _of_tenant("globex")), _poisson(60, 25, _of_tenant("acme"))]),
    ),
    AblationWorkload(
        name="8 selectors",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.UPGRADES}),
        document=_fixed([_poisson(320, 30, _MIXED)], selectors=8),
    ),
    AblationWorkload(
        name="4 selectors, 24 small workers",
        areas=frozenset({Area.PREDICTION, Area.CHOICE}),
        document=_fixed(
            [_poisson(520, 15, [_MEDIUM])],
            24,
            placed={"resnet50.onnx-int8.cpu": 24},
            selectors=4,
        ),
        hardware={"cpu": {"slots": 1}},
    ),
    AblationWorkload(
        name="24 small workers",
        areas=frozenset({Area.PREDICTION, Area.CHOICE}),
        document=_fixed([_poisson(550, 20, [_MEDIUM])], 24, placed={"resnet50.onnx-int8.cpu": 24}),
        hardware={"cpu": {"slots": 1}},
    ),
    AblationWorkload(
        name="a worker slows",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.WORKER}),
        document=_fixed(
            [_poisson(380, 40, _MIXED)], 3, faults=[{"kind": "worker-slows", "at_s": 12, "seconds": 18, "factor": 4}]
        ),
    ),
    AblationWorkload(
        name="a worker dies",
        areas=frozenset({Area.CHOICE}),
        document=_fixed([_poisson(300, 45, _MIXED)], 3, faults=[{"kind": "worker-dies", "at_s": 15}]),
    ),
    AblationWorkload(
        name="a worker dies at low load",
        areas=frozenset({Area.CHOICE}),
        document=_fixed(
            [_poisson(1.5, 300, _MIXED)], 3, faults=[{"kind": "worker-dies", "at_s": at_s} for at_s in (50, 150, 250)]
        ),
    ),
    AblationWorkload(
        name="two deadlines for one variant",
        areas=frozenset({Area.WORKER}),
        document=_fixed(
            [
                _stream(
                    {"process": "markov", "rates": [120, 350], "means": [5, 1.5]},
                    50,
                    [_MEDIUM, _MEDIUM | {"latency_ms": 3000}],
                )
            ]
        ),
    ),
    AblationWorkload(
        name="no deadlines",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.WORKER}),
        document=_fixed([_stream(_BURSTS, 40, [kind | {"latency_ms": None} for kind in _MIXED])]),
    ),
    AblationWorkload(
        name="large queries",
        areas=frozenset({Area.PREDICTION, Area.WORKER}),
        document=_fixed(
            [
                _poisson(150, 40, [_FAST, _MEDIUM]),
                _poisson(1.0, 40, [_LARGE | {"tenant": "globex"}], batches={"sizes": "list", "of": [200, 800]}),
                _poisson(0.1, 40, [_LARGE | {"tenant": "acme"}], batches={"sizes": "list", "of": [200, 800]}),
            ]
        ),
    ),
    AblationWorkload(
        name="batches of several inputs",
        areas=frozenset({Area.PREDICTION, Area.WORKER}),
        document=_fixed([_poisson(85, 50, _MIXED, batches={"sizes": "geometric", "mean": 4, "most": 16})]),
    ),
    AblationWorkload(
        name="offline flood of two tenants",
        areas=frozenset({Area.OFFLINE, Area.WORKER}),
        document=_fixed(
            [
                _poisson(60, 40, _MIXED),
                _poisson(2000, 2, _FLOOD, start=6),
                _poisson(100, 2, _LATER, start=15),
            ],
            workers=1,
            drain_s=0,
        ),
    ),
    AblationWorkload(
        name="offline queries behind ones that no instance answers",
        areas=frozenset({Area.OFFLINE}),
        document=_fixed(
            [
                _poisson(60, 40, _MIXED),
                _poisson(500, 2, _UNLOADED, start=6),
                _poisson(20, 20, _LATER, start=10),
            ],
            workers=1,
            drain_s=0,
        ),
    ),
    AblationWorkload(
        name="overload x3, 2 gateways",
        areas=frozenset({Area.GATEWAY, Area.OVERLOAD}),
        document=_fixed([_poisson(1080, 20, _of_tenant("globex")), _poisson(120, 20, _of_tenant("acme"))], gateways=2),
    ),
    AblationWorkload(
        name="bursts, 2 gateways",
        areas=frozenset({Area.GATEWAY}),
        document=_fixed([_stream(_BURSTS, 40, _MIXED)], gateways=2),
    ),
    AblationWorkload(
        name="selector at its limit, 2 gateways",
        areas=frozenset({Area.GATEWAY}),
        document=_fixed(
            [_poisson(630, 20, _of_tenant("globex")), _poisson(70, 20, _of_tenant("acme"))],
            4,
            gateways=2,
            delays={"selector_s": 0.002},
        ),
    ),
)


# -- autoscaled fleets -------------------------------------------------------------------------------------------------

_SCALED_NEEDS: Final = [
    {"task": _IMAGES, "latency_ms": 200, "min_accuracy": 0.76, "weight": 6},
    {"task": _IMAGES, "latency_ms": 400, "min_accuracy": 0.80, "weight": 3},
    {"task": _IMAGES, "latency_ms": 600, "min_accuracy": 0.82, "weight": 1},
]
_RARE: Final = {"task": _IMAGES, "latency_ms": 300, "min_accuracy": 0.84, "weight": 1}
_TEXTS: Final = [{"task": "text-classification", "latency_ms": 300, "min_accuracy": 0.85}]
_SMALL: Final[dict[str, dict[str, Any]]] = {
    "cpu": {"slots": 1, "price_per_hour": 0.096, "memory_bytes": 8_000_000_000},
    "t4": {},
}
_NAMES: Final = (
    "resnet50", "resnet18", "efficientnet-b0", "vgg16-bn", "densenet121", "mobilenet-v2", "swin-t", "inception-v3",
    "convnext-tiny", "alexnet", "resnet101", "resnext50-32x4d", "efficientnet-b4", "swin-b", "regnet-y-3-2gf",
    "vit-b-16",
)  # fmt: skip
_NAMED: Final = [
    {"task": _IMAGES, "latency_ms": 10_000, "target": name, "weight": round(1 / rank, 4)}
    for rank, name in enumerate(_NAMES, start=1)
]
"""Queries that name a model, Zipf."""


def _scaled(streams: list[dict[str, Any]], workers: int = 2, **fields: Any) -> dict[str, Any]:
    document = {"workload": {"streams": streams}, "fleet": {"cpu": workers}, "warm_up_s": 90, "drain_s": 10}
    return document | fields


_SCALED: Final = (
    AblationWorkload(
        name="bursty, scaled",
        areas=frozenset({Area.UPGRADES, Area.LOAD, Area.ALLOCATION, Area.DELAYS, Area.PLACEMENT}),
        document=_scaled([_stream({"process": "markov", "rates": [20, 120], "means": [45, 15]}, 300, _SCALED_NEEDS)]),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="diurnal, scaled",
        areas=frozenset({Area.LOAD, Area.DELAYS}),
        document=_scaled(
            [_stream({"process": "diurnal", "rate": 50, "amplitude": 0.9, "period": 130}, 350, _SCALED_NEEDS)]
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="periodic steps, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [_stream({"process": "steps", "rates": [20, 100], "lengths": [50, 25]}, 375, _SCALED_NEEDS)],
            warm_up_s=160,
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="ramp, slow starts, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [
                _stream(
                    {"process": "flash-crowd", "rate": 20, "factor": 8, "at": 60, "rise": 300, "hold": 30},
                    390,
                    _SCALED_NEEDS,
                )
            ],
            warm_up_s=60,
        ),
        hardware={name: fields | {"start_s": 120} for name, fields in _SMALL.items()},
    ),
    AblationWorkload(
        name="flash crowd, scaled",
        areas=frozenset({Area.LOAD, Area.ALLOCATION}),
        document=_scaled(
            [
                _stream(
                    {"process": "flash-crowd", "rate": 20, "factor": 8, "at": 120, "rise": 20, "hold": 40},
                    250,
                    _SCALED_NEEDS,
                )
            ]
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="rare classes, scaled",
        areas=frozenset({Area.LOAD, Area.ALLOCATION, Area.DELAYS}),
        document=_scaled([_poisson(1.5, 450, [*_SCALED_NEEDS, _RARE, *_TEXTS])], 1),
        hardware={"cpu": {}, "t4": {}, "inf1": {}},
        architectures=_ARCHITECTURES | {"convnext-base"},
    ),
    AblationWorkload(
        name="16 models by name, memory for 5",
        areas=frozenset({Area.ALLOCATION, Area.PLACEMENT, Area.CHOICE}),
        document=_scaled([_poisson(2, 300, _NAMED)], 1, maximum={"cpu": 1}),
        hardware={"cpu": {"memory_bytes": 1_200_000_000}},
        architectures=frozenset(_NAMES),
    ),
    AblationWorkload(
        name="offline backlog, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [
                _poisson(60, 100, _SCALED_NEEDS),
                _poisson(2, 180, _SCALED_NEEDS, start=100),
                _poisson(400, 8, _FLOOD, start=95),
            ],
            maximum={"cpu": 6, "t4": 0},
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="a worker dies, another slows, scaled",
        areas=frozenset({Area.DELAYS, Area.PLACEMENT}),
        document=_scaled(
            [_poisson(60, 300, _SCALED_NEEDS)],
            4,
            faults=[
                {"kind": "worker-dies", "at_s": 120},
                {"kind": "worker-slows", "at_s": 180, "seconds": 100, "factor": 4},
            ],
            maximum={"t4": 0},
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="one of two workers slows for long, scaled",
        areas=frozenset({Area.PLACEMENT}),
        document=_scaled(
            [_poisson(25, 300, _SCALED_NEEDS)],
            faults=[{"kind": "worker-slows", "at_s": 90, "seconds": 200, "factor": 4}],
            maximum={"cpu": 2},
            scaling={"min_workers": {"cpu": 2}},
        ),
    ),
)

WORKLOADS: Final = {one.name: one for one in (*_FIXED, *_SCALED)}

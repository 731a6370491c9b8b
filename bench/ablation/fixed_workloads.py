"""Workloads of the ablation on fixed fleets of the shipped catalogue's CPU workers."""

from typing import Any, Final

from bench.ablation.mechanism import Area
from bench.ablation.workload import FLOOD, IMAGES, AblationWorkload, poisson, stream

_FAST: Final = {"task": IMAGES, "latency_ms": 150, "min_accuracy": 0.70, "weight": 6}
_MEDIUM: Final = {"task": IMAGES, "latency_ms": 300, "min_accuracy": 0.80, "weight": 3}
_ACCURATE: Final = {"task": IMAGES, "latency_ms": 500, "min_accuracy": 0.82, "weight": 1}
_MIXED: Final = [_FAST, _MEDIUM, _ACCURATE]
_PLACED: Final = ("efficientnet-b0.onnx-int8.cpu", "resnet50.onnx-int8.cpu", "efficientnet-b4.onnx-int8.cpu")
"""Variants of fixed fleets: one for each of the mixed needs. A CPU worker computes 196 queries of this mix a second."""


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
_FAR: Final = {"p50_s": 0.02, "p99_s": 0.022}
"""Delay between two sites."""
_LATER: Final = [_MEDIUM | {"mode": "offline", "latency_ms": None, "tenant": "acme"}]
_UNLOADED: Final = [_LATER[0] | {"target": "regnet-y-3-2gf"}]
_LARGE: Final = {"task": IMAGES, "latency_ms": 10_000, "min_accuracy": 0.70}

FIXED_WORKLOADS: Final = (
    AblationWorkload(
        name="90 % load",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.UPGRADES, Area.WORKER}),
        document=_fixed([poisson(350, 30, _MIXED)]),
    ),
    AblationWorkload(
        name="86 % load",
        areas=frozenset({Area.OVERLOAD}),
        document=_fixed([poisson(337, 60, _MIXED)]),
    ),
    AblationWorkload(
        name="light load, services on the worker's machine",
        areas=frozenset({Area.UPGRADES}),
        document=_fixed([poisson(110, 40, [_FAST])], 1, machine={"cpus": 2, "query_cpu_s": 0.0015}),
        hardware={"cpu": {"slots": 2, "threads": 1}},
    ),
    AblationWorkload(
        name="bursts",
        areas=frozenset({Area.UPGRADES, Area.OVERLOAD}),
        document=_fixed([stream(_BURSTS, 40, _MIXED)]),
    ),
    AblationWorkload(
        name="overload x1.6",
        areas=frozenset({Area.CHOICE, Area.OVERLOAD, Area.WORKER}),
        document=_fixed([poisson(640, 20, _MIXED)]),
    ),
    AblationWorkload(
        name="overload x1.6, hops of 20 ms",
        areas=frozenset({Area.PREDICTION}),
        document=_fixed([poisson(640, 20, _MIXED)], delays=dict.fromkeys(("to_worker", "result", "status"), _FAR)),
    ),
    AblationWorkload(
        name="slow decoding",
        areas=frozenset({Area.PREDICTION}),
        document=_fixed([poisson(300, 30, [_FAST, _MEDIUM])]) | {"workers": {"overhead_s": 0.005}},
    ),
    AblationWorkload(
        name="overload by one of two tenants",
        areas=frozenset({Area.OVERLOAD}),
        document=_fixed([poisson(600, 25, _of_tenant("globex")), poisson(60, 25, _of_tenant("acme"))]),
    ),
    AblationWorkload(
        name="8 selectors",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.UPGRADES}),
        document=_fixed([poisson(320, 30, _MIXED)], selectors=8),
    ),
    AblationWorkload(
        name="4 selectors, 24 small workers",
        areas=frozenset({Area.PREDICTION, Area.CHOICE}),
        document=_fixed(
            [poisson(520, 15, [_MEDIUM])],
            24,
            placed={"resnet50.onnx-int8.cpu": 24},
            selectors=4,
        ),
        hardware={"cpu": {"slots": 1}},
    ),
    AblationWorkload(
        name="24 small workers",
        areas=frozenset({Area.PREDICTION, Area.CHOICE}),
        document=_fixed([poisson(550, 20, [_MEDIUM])], 24, placed={"resnet50.onnx-int8.cpu": 24}),
        hardware={"cpu": {"slots": 1}},
    ),
    AblationWorkload(
        name="a worker slows",
        areas=frozenset({Area.PREDICTION, Area.CHOICE, Area.WORKER}),
        document=_fixed(
            [poisson(380, 40, _MIXED)], 3, faults=[{"kind": "worker-slows", "at_s": 12, "seconds": 18, "factor": 4}]
        ),
    ),
    AblationWorkload(
        name="the only worker stalls",
        areas=frozenset({Area.WORKER}),
        document=_fixed(
            [poisson(150, 40, _MIXED)],
            1,
            faults=[{"kind": "worker-slows", "at_s": at_s, "seconds": 2, "factor": 30} for at_s in (10, 20, 30)],
        ),
    ),
    AblationWorkload(
        name="a worker dies",
        areas=frozenset({Area.CHOICE}),
        document=_fixed([poisson(300, 45, _MIXED)], 3, faults=[{"kind": "worker-dies", "at_s": 15}]),
    ),
    AblationWorkload(
        name="a worker dies at low load",
        areas=frozenset({Area.CHOICE}),
        document=_fixed(
            [poisson(1.5, 300, _MIXED)], 3, faults=[{"kind": "worker-dies", "at_s": at_s} for at_s in (50, 150, 250)]
        ),
    ),
    AblationWorkload(
        name="two deadlines for one variant",
        areas=frozenset({Area.WORKER}),
        document=_fixed(
            [
                stream(
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
        document=_fixed([stream(_BURSTS, 40, [kind | {"latency_ms": None} for kind in _MIXED])]),
    ),
    AblationWorkload(
        name="large queries",
        areas=frozenset({Area.PREDICTION, Area.WORKER}),
        document=_fixed(
            [
                poisson(150, 40, [_FAST, _MEDIUM]),
                poisson(1.0, 40, [_LARGE | {"tenant": "globex"}], batches={"sizes": "list", "of": [200, 800]}),
                poisson(0.1, 40, [_LARGE | {"tenant": "acme"}], batches={"sizes": "list", "of": [200, 800]}),
            ]
        ),
    ),
    AblationWorkload(
        name="large queries beside too many small ones",
        areas=frozenset({Area.WORKER}),
        document=_fixed(
            [
                poisson(500, 30, [kind | {"tenant": "initech"} for kind in (_FAST, _MEDIUM)]),
                poisson(
                    0.5,
                    30,
                    [_LARGE | {"tenant": "globex", "latency_ms": 20_000}],
                    batches={"sizes": "list", "of": [200, 800]},
                ),
            ]
        ),
    ),
    AblationWorkload(
        name="large queries beside ones without deadlines",
        areas=frozenset({Area.WORKER}),
        document=_fixed(
            [
                poisson(340, 30, [kind | {"tenant": "initech", "latency_ms": None} for kind in (_FAST, _MEDIUM)]),
                poisson(0.5, 30, [_LARGE | {"tenant": "globex"}], batches={"sizes": "list", "of": [200, 800]}),
            ],
            drain_s=15,
        ),
    ),
    AblationWorkload(
        name="batches of several inputs",
        areas=frozenset({Area.PREDICTION, Area.WORKER}),
        document=_fixed([poisson(85, 50, _MIXED, batches={"sizes": "geometric", "mean": 4, "most": 16})]),
    ),
    AblationWorkload(
        name="offline flood of two tenants",
        areas=frozenset({Area.OFFLINE, Area.WORKER}),
        document=_fixed(
            [
                poisson(60, 40, _MIXED),
                poisson(2000, 2, FLOOD, start=6),
                poisson(100, 2, _LATER, start=15),
            ],
            workers=1,
            drain_s=0,
        ),
    ),
    AblationWorkload(
        name="offline queries beside accurate ones",
        areas=frozenset({Area.OFFLINE}),
        document=_fixed(
            [
                poisson(6, 60, [_ACCURATE | {"latency_ms": 150}]),
                poisson(10, 60, [_ACCURATE | {"latency_ms": None, "mode": "offline"}]),
            ],
            workers=1,
        ),
    ),
    AblationWorkload(
        name="offline queries behind ones that no instance answers",
        areas=frozenset({Area.OFFLINE}),
        document=_fixed(
            [poisson(60, 40, _MIXED), poisson(500, 2, _UNLOADED, start=6), poisson(20, 20, _LATER, start=10)],
            workers=1,
            drain_s=0,
        ),
    ),
    AblationWorkload(
        name="overload x3, 2 gateways",
        areas=frozenset({Area.GATEWAY, Area.OVERLOAD}),
        document=_fixed([poisson(1080, 20, _of_tenant("globex")), poisson(120, 20, _of_tenant("acme"))], gateways=2),
    ),
    AblationWorkload(
        name="bursts, 2 gateways",
        areas=frozenset({Area.GATEWAY}),
        document=_fixed([stream(_BURSTS, 40, _MIXED)], gateways=2),
    ),
    AblationWorkload(
        name="selector at its limit, 2 gateways",
        areas=frozenset({Area.GATEWAY}),
        document=_fixed(
            [poisson(630, 20, _of_tenant("globex")), poisson(70, 20, _of_tenant("acme"))],
            4,
            gateways=2,
            delays={"selector_s": 0.002},
        ),
    ),
)

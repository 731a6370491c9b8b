"""Workloads of the ablation on autoscaled fleets, mostly of workers of one slot, which a few queries a second fill."""

from typing import Any, Final

from bench.ablation.mechanism import Area
from bench.ablation.workload import ARCHITECTURES, FLOOD, IMAGES, AblationWorkload, poisson, stream

_SCALED_NEEDS: Final = [
    {"task": IMAGES, "latency_ms": 200, "min_accuracy": 0.76, "weight": 6},
    {"task": IMAGES, "latency_ms": 400, "min_accuracy": 0.80, "weight": 3},
    {"task": IMAGES, "latency_ms": 600, "min_accuracy": 0.82, "weight": 1},
]
_FIRST: Final = [
    *((IMAGES, ms, accuracy) for ms, accuracy in ((100, 0.70), (150, 0.74), (200, 0.76), (300, 0.80), (600, 0.82))),
    ("text-classification", 150, 0.85),
    ("text-classification", 400, 0.90),
]
"""Needs that nobody has had before, one after the other."""
_RARE: Final = {"task": IMAGES, "latency_ms": 300, "min_accuracy": 0.84, "weight": 1}
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
_NAMES_OF_ALL: Final = (
    "alexnet", "convnext-base", "convnext-tiny", "densenet121", "densenet201", "efficientnet-b0", "efficientnet-b4",
    "inception-v3", "mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small", "regnet-y-3-2gf", "resnet101",
    "resnet152", "resnet18", "resnet34", "resnet50", "resnext101-32x8d", "resnext50-32x4d", "swin-b", "swin-t",
    "vgg16-bn", "vit-b-16", "wide-resnet50-2",
)  # fmt: skip


def _named(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return queries that name a model, Zipf."""
    return [
        {"task": IMAGES, "latency_ms": 10_000, "target": name, "weight": round(1 / rank, 4)}
        for rank, name in enumerate(names, start=1)
    ]


def _scaled(streams: list[dict[str, Any]], workers: int = 2, **fields: Any) -> dict[str, Any]:
    document = {"workload": {"streams": streams}, "fleet": {"cpu": workers}, "warm_up_s": 90, "drain_s": 10}
    return document | fields


SCALED_WORKLOADS: Final = (
    AblationWorkload(
        name="bursty, scaled",
        areas=frozenset({Area.UPGRADES, Area.LOAD, Area.ALLOCATION, Area.DELAYS, Area.PLACEMENT}),
        document=_scaled([stream({"process": "markov", "rates": [20, 120], "means": [45, 15]}, 300, _SCALED_NEEDS)]),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="diurnal, scaled",
        areas=frozenset({Area.LOAD, Area.DELAYS}),
        document=_scaled(
            [stream({"process": "diurnal", "rate": 50, "amplitude": 0.9, "period": 130}, 350, _SCALED_NEEDS)]
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="periodic steps, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [stream({"process": "steps", "rates": [20, 100], "lengths": [50, 25]}, 375, _SCALED_NEEDS)],
            warm_up_s=160,
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="short bursts each 80 s, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [stream({"process": "steps", "rates": [30, 90], "lengths": [60, 20]}, 480, _SCALED_NEEDS)], warm_up_s=160
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="tight latency on ten workers, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled([poisson(100, 200, [{"task": IMAGES, "latency_ms": 60, "min_accuracy": 0.80}])], 8),
        hardware={"cpu": _SMALL["cpu"]},
    ),
    AblationWorkload(
        name="ramp, slow starts, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [
                stream(
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
                stream(
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
        document=_scaled([poisson(1.5, 450, [*_SCALED_NEEDS, _RARE, *_TEXTS])], 1),
        hardware={"cpu": {}, "t4": {}, "inf1": {}},
        architectures=ARCHITECTURES | {"convnext-base"},
    ),
    AblationWorkload(
        name="16 models by name, memory for 5",
        areas=frozenset({Area.ALLOCATION, Area.PLACEMENT, Area.CHOICE}),
        document=_scaled([poisson(2, 300, _named(_NAMES))], 1, maximum={"cpu": 1}),
        hardware={"cpu": {"memory_bytes": 1_200_000_000}},
        architectures=frozenset(_NAMES),
    ),
    AblationWorkload(
        name="24 models by name",
        areas=frozenset({Area.PLACEMENT}),
        document=_scaled([poisson(2, 300, _named(_NAMES_OF_ALL))], 1, maximum={"cpu": 1}),
        hardware={"cpu": {"memory_bytes": 3_000_000_000}},
        architectures=frozenset(_NAMES_OF_ALL),
    ),
    AblationWorkload(
        name="first queries of a class, scaled",
        areas=frozenset({Area.PLACEMENT}),
        document=_scaled(
            [
                poisson(1, 100, [{"task": IMAGES, "latency_ms": 1000, "min_accuracy": 0.7}]),
                *(
                    poisson(
                        2, 20, [{"task": task, "latency_ms": latency_ms, "min_accuracy": accuracy}], start=100 + 20 * n
                    )
                    for n, (task, latency_ms, accuracy) in enumerate(_FIRST)
                ),
            ],
            1,
            maximum={"cpu": 1},
        ),
    ),
    AblationWorkload(
        name="offline backlog, scaled",
        areas=frozenset({Area.LOAD}),
        document=_scaled(
            [
                poisson(60, 100, _SCALED_NEEDS),
                poisson(2, 180, _SCALED_NEEDS, start=100),
                poisson(400, 8, FLOOD, start=95),
            ],
            maximum={"cpu": 6, "t4": 0},
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="bursts on a full pool, heuristic, scaled",
        areas=frozenset({Area.ALLOCATION}),
        document=_scaled(
            [stream({"process": "markov", "rates": [40, 160], "means": [45, 30]}, 300, _SCALED_NEEDS)],
            maximum={"cpu": 3, "t4": 0},
            scaling={"policy": "greedy"},
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="urgent queries beside patient ones",
        areas=frozenset({Area.DELAYS}),
        document=_scaled(
            [
                poisson(60, 200, [{"task": IMAGES, "latency_ms": 3000, "min_accuracy": 0.80}]),
                poisson(10, 200, [{"task": IMAGES, "latency_ms": 90, "min_accuracy": 0.80}]),
            ],
            1,
            maximum={"cpu": 1},
        ),
    ),
    AblationWorkload(
        name="urgent queries beside batches of patient ones",
        areas=frozenset({Area.DELAYS}),
        document=_scaled(
            [
                poisson(
                    7.5,
                    200,
                    [{"task": IMAGES, "latency_ms": 3000, "min_accuracy": 0.80}],
                    batches={"sizes": "list", "of": [8]},
                ),
                poisson(10, 200, [{"task": IMAGES, "latency_ms": 150, "min_accuracy": 0.80}]),
            ],
            1,
            maximum={"cpu": 1},
        ),
    ),
    AblationWorkload(
        name="a worker dies, another slows, scaled",
        areas=frozenset({Area.DELAYS, Area.PLACEMENT}),
        document=_scaled(
            [poisson(60, 300, _SCALED_NEEDS)],
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
        name="one of three workers slows for long, scaled",
        areas=frozenset({Area.DELAYS}),
        document=_scaled(
            [poisson(45, 400, _SCALED_NEEDS)],
            3,
            faults=[{"kind": "worker-slows", "at_s": 100, "seconds": 300, "factor": 4}],
            maximum={"t4": 0},
        ),
        hardware=_SMALL,
    ),
    AblationWorkload(
        name="one of two workers slows for long, scaled",
        areas=frozenset({Area.PLACEMENT}),
        document=_scaled(
            [poisson(25, 300, _SCALED_NEEDS)],
            faults=[{"kind": "worker-slows", "at_s": 90, "seconds": 200, "factor": 4}],
            maximum={"cpu": 2},
            scaling={"min_workers": {"cpu": 2}},
        ),
    ),
)

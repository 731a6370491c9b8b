"""Scenarios of the tests of baselines: one task, two architectures on CPU and GPU, and simple traces."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.scenario import Scenario
from simulator.trace import QueryKind, Trace

GIB = 1 << 30
KIND = QueryKind(task="images", latency_ms=200.0)
STRICT = QueryKind(task="images", latency_ms=200.0, min_accuracy=0.75)


def hardware(name: str, price: float, slots: int, start_s: float) -> CatalogueHardware:
    return CatalogueHardware(
        name=name, price_per_hour=price, memory_bytes=16 * GIB, slots=slots, threads=1, start_s=start_s, maximum=8,
        source="a test",
    )  # fmt: skip


def variant(name: str, accuracy: float, first_s: float, next_s: float, **changes: Any) -> CatalogueVariant:
    """Return a variant whose batch takes `first_s` for one input and `next_s` for each other one."""
    architecture, recipe, device = name.split(".")
    seconds = {batch: first_s + (batch - 1) * next_s for batch in (1, 8, 16)}
    fields: dict[str, Any] = {
        "name": name, "task": "images", "architecture": architecture, "hardware": device,
        "runtime": recipe.split("-")[0], "precision": "fp32", "max_batch": 16, "accuracy": accuracy, "load_s": 1.0,
        "memory_bytes": 4 * GIB, "source": "a test",
        "latency": tuple(BatchLatency(batch, p50_s, 1.2 * p50_s) for batch, p50_s in seconds.items()),
    }  # fmt: skip
    return CatalogueVariant(**fields | changes)


SMALL = variant("small.onnx-fp32.cpu", 0.7, 0.02, 0.018)
LARGE = variant("large.onnx-fp32.cpu", 0.8, 0.08, 0.07)
SMALL_GPU = variant("small.tensorrt-fp16.cuda", 0.7, 0.004, 0.0005, load_s=4.0)
LARGE_GPU = variant("large.tensorrt-fp16.cuda", 0.8, 0.008, 0.001, load_s=4.0)
CATALOGUE = Catalogue(
    hardware=(hardware("cpu", 0.4, 4, 5.0), hardware("cuda", 3.0, 1, 10.0)),
    variants=(SMALL, LARGE, SMALL_GPU, LARGE_GPU),
)


def trace(rates: Sequence[tuple[float, float]], kinds: Sequence[QueryKind] = (KIND,), seed: int = 1) -> Trace:
    """Return Poisson arrivals by steps of (seconds, queries a second), of kinds in equal numbers."""
    random, times, start_s = np.random.default_rng(seed), [np.zeros(0)], 0.0
    for seconds, rate in rates:
        times.append(start_s + np.sort(random.random(random.poisson(seconds * rate))) * seconds)
        start_s += seconds
    time_s = np.concatenate(times)
    return Trace(time_s, random.integers(0, len(kinds), len(time_s), dtype=np.int32), tuple(kinds))


BURSTY = trace([(20, 30), (5, 300), (20, 30), (10, 150), (20, 10)], (KIND, STRICT))
"""Some thousand queries with two bursts."""


def scenario(queries: Trace, **changes: Any) -> Scenario:
    return Scenario(trace=queries, catalogue=changes.pop("catalogue", CATALOGUE), **changes)

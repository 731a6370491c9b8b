"""Small catalogues and traces for tests of the simulator."""

from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.durations import Duration
from simulator.scenario import Delays, Scaling, Scenario
from simulator.trace import QueryKind, Trace

SURE: Final = Delays(
    to_selector=Duration(0.001, 0.001),
    to_worker=Duration(0.001, 0.001),
    result=Duration(0.001, 0.001),
    status=Duration(0.001, 0.001),
)
"""Delays that do not vary."""
FIXED: Final = Scaling(enabled=False)
MB: Final = 1 << 20


def a_variant(name: str, hardware: str = "cpu", **fields: Any) -> CatalogueVariant:
    """Return a variant; by default a batch takes 10 ms and 1 ms more for each input, always."""
    batch_s, input_s = fields.pop("batch_s", 0.010), fields.pop("input_s", 0.001)
    noise = fields.pop("noise", 1.0)
    max_batch = fields.pop("max_batch", 8)
    sizes = sorted({1, max_batch})
    seconds = [batch_s + input_s * size for size in sizes]
    latency = tuple(BatchLatency(size, s, s * noise) for size, s in zip(sizes, seconds, strict=True))
    defaults: dict[str, Any] = {
        "task": "vision", "architecture": name, "runtime": "onnx", "precision": "fp32", "accuracy": 0.7, "load_s": 1.0,
        "memory_bytes": 100 * MB, "source": "a test",
    }  # fmt: skip
    return CatalogueVariant(
        name=f"{name}.onnx-fp32.{hardware}", hardware=hardware, max_batch=max_batch, latency=latency,
        **(defaults | fields),
    )  # fmt: skip


def a_catalogue(*variants: CatalogueVariant, slots: int = 2, start_s: float = 20.0, maximum: int = 4) -> Catalogue:
    """Return a catalogue of these variants, on workers of `slots` slots at 0.36 USD an hour."""
    hardware = sorted({variant.hardware for variant in variants})
    return Catalogue(
        hardware=tuple(
            CatalogueHardware(
                name=name, price_per_hour=0.36, memory_bytes=1024 * MB, slots=slots, start_s=start_s, maximum=maximum,
                source="a test",
            )
            for name in hardware
        ),
        variants=variants,
    )  # fmt: skip


def a_trace(rate_per_s: float, seconds: float, *kinds: QueryKind, seed: int = 1, even: bool = False) -> Trace:
    """Return Poisson arrivals, or arrivals at equal gaps, of these kinds in turn."""
    count = round(rate_per_s * seconds)
    if even:
        time_s = np.arange(count) / rate_per_s
    else:
        time_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, count))
    kinds = kinds or (QueryKind(task="vision", latency_ms=100),)
    return Trace(time_s, np.arange(count, dtype=np.int32) % len(kinds), kinds)


def a_scenario(trace: Trace, catalogue: Catalogue, **fields: Any) -> Scenario:
    """Return a scenario with one worker of each hardware, delays that do not vary, and no added batch time."""
    fleet = dict.fromkeys((one.name for one in catalogue.hardware), 1)
    return replace(Scenario(trace=trace, catalogue=catalogue, fleet=fleet, delays=SURE), **fields)

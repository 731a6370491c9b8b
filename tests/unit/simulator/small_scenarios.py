"""Small scenarios for tests; a worker costs 1 USD a second."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.scenario import Scaling, Scenario, Workers
from simulator.trace import QueryKind, Trace

HARDWARE = CatalogueHardware(
    name="t4", price_per_hour=3600.0, memory_bytes=1 << 30, slots=1, start_s=0.0, maximum=10, source="a test"
)
KIND = QueryKind(task="digits", latency_ms=500.0)


def variant(hardware: str, seconds: Sequence[float], **changes: Any) -> CatalogueVariant:
    """Return a variant that takes `seconds`, by batch size from 1 on."""
    made = CatalogueVariant(
        name=f"mlp.onnx-fp32.{hardware}", task="digits", architecture="mlp", hardware=hardware, runtime="onnx",
        precision="fp32", max_batch=len(seconds), accuracy=0.9, load_s=0.0, memory_bytes=1 << 20,
        latency=tuple(BatchLatency(size, one, one) for size, one in enumerate(seconds, 1)), source="a test",
    )  # fmt: skip
    return replace(made, **changes)


def scenario(
    times_s: Sequence[float],
    variants: Sequence[CatalogueVariant],
    kinds: Sequence[QueryKind] = (KIND,),
    hardware: Sequence[CatalogueHardware] = (HARDWARE,),
    **changes: Any,
) -> Scenario:
    """Return a scenario without overhead and time after the trace; query n has kind n modulo their number."""
    trace = Trace(times_s, [n % len(kinds) for n in range(len(times_s))], tuple(kinds))  # pyright: ignore[reportArgumentType]
    made = Scenario(
        trace=trace, catalogue=Catalogue(hardware=tuple(hardware), variants=tuple(variants)), drain_s=0.0,
        workers=Workers(overhead_s=0.0), scaling=Scaling(),
    )  # fmt: skip
    return replace(made, **changes)

"""Builders of snapshots: variants named `<task>-<letter>`, their load, and workers."""

from typing import Any

import msgspec

from autoscaler.decide.pareto import VariantRanking, launchable_cores, live_cores, rank_variants
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot, HardwareType, InstanceLoad, ScalingLimits
from schemas.load_classes import LoadClass
from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState
from tests.example_rows import a_profile, a_variant

LIMITS = ScalingLimits(memory_share=1.0, instances_per_slot=3)


def full(name: str) -> str:
    return f"{name}.onnx-fp32.cpu"


def profile(name: str, accuracy: float = 0.9, batch_s: float = 0.001, memory: int = 10, load_s: float = 0.1) -> Profile:
    """Return a profile in which a batch of 1 takes `batch_s`, and one of 32 sixteen times as long."""
    return msgspec.structs.replace(a_profile(full(name), accuracy, batch_s, memory), load_s=load_s)


def registered(profiles: list[Profile]) -> dict[str, Variant]:
    return {p.variant: a_variant(p.variant, task=p.variant.split("-")[0]) for p in profiles}


def ranking(profiles: list[Profile], snapshot: ClusterSnapshot) -> VariantRanking:
    by_name = {p.variant: p for p in profiles}
    return rank_variants(
        registered(profiles), by_name, live_cores(snapshot.workers), launchable_cores(snapshot.hardware)
    )


def load(
    task: str, rate: float, *, accuracy: float = 0.0, ms: float | None = None, target: str | None = None, **rest: Any
) -> ClassLoad:
    wanted = LoadClass(
        task=task, target=target, min_accuracy=accuracy, latency_ms=ms, offline=rest.pop("offline", False)
    )
    return ClassLoad(load_class=wanted, inputs_per_s=rate, **rest)


def instance_load(name: str, worker: str = "cpu-0", **rest: Any) -> InstanceLoad:
    found: dict[str, Any] = {"state": InstanceState.ACTIVE, "inputs_per_s": 1.0} | rest
    return InstanceLoad(variant=full(name), worker=worker, **found)


def cpus(maximum: int = 4, **rest: Any) -> HardwareType:
    found: dict[str, Any] = {"slots": 1, "memory_bytes": 10**9, "start_s": 2.0, "price_per_hour": 0.096} | rest
    return HardwareType(name="cpu", maximum=maximum, runtimes=("onnx",), **found)

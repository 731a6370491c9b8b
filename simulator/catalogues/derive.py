"""Derives the catalogue `infaas-44x270` from published figures: `python -m simulator.catalogues.derive` writes it.

Each architecture has a variant in FP32 on CPUs and in FP16 on each GPU, one in INT8 on each device that computes in it
if a publication states the accuracy, and one on Inferentia if it or one of its family was published to run there.

Rules:
* Figures have four significant digits, so that the file does not depend on the machine that writes it.
* Load time and memory are assumptions; `docs/catalogue.md` gives their reasons.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from schemas.latency import BatchLatency
from schemas.names import variant_name
from simulator.catalogue import (
    SHIPPED,
    Catalogue,
    CatalogueHardware,
    CatalogueVariant,
    write_catalogue,
)
from simulator.catalogues.latency_formula import BYTES, latency_s
from simulator.catalogues.tables import ArchitectureFigures, Device, read_architectures, read_devices

NAME: Final = "infaas-44x270"
_RUNTIMES: Final = {"cpu": "onnx", "gpu": "tensorrt", "neuron": "torch-neuron"}
_PLAIN: Final = {"cpu": "fp32", "gpu": "fp16", "neuron": "bf16"}
"""Precision with the accuracy of FP32, by family."""
_BATCHES: Final = {"cpu": (1, 2, 4, 8, 16), "gpu": (1, 2, 4, 8, 16, 32, 64), "neuron": (1, 2, 4, 8, 16)}
_LONG_S: Final = 1.0
_LONG_GROWTH: Final = 1.5
"""Batches that take longer than both, a second and this multiple of one input, are left out."""
_START_S: Final = 30.0
"""Start of a machine: 20 to 30 s (Romero et al., 2021)."""
_MAXIMUM: Final = 100

_LOAD_S: Final = 0.5
_LOAD_BYTES_PER_S: Final = 100e6
"""With these two, loads take 0.5 to 11 s, as 21 architectures do in Romero et al. (2021)."""
_RUNTIME_BYTES: Final = {"cpu": 64 << 20, "gpu": 256 << 20, "neuron": 128 << 20}
"""Memory of an instance besides its weights and activations."""
_ALIVE: Final = 0.1
"""Share of a batch's activations that are held at a time."""


def derive() -> Catalogue:
    """Return the catalogue."""
    devices = [device for device in read_devices().values() if device.instance]
    trained = [architecture for architecture in read_architectures().values() if architecture.task]
    variants = [variant for one in trained for device in devices for variant in _variants(one, device)]
    return Catalogue(hardware=tuple(map(_hardware, devices)), variants=tuple(variants))


def _hardware(device: Device) -> CatalogueHardware:
    assert device.price_per_hour is not None
    assert device.memory_gb is not None
    return CatalogueHardware(
        name=device.name, price_per_hour=device.price_per_hour, memory_bytes=round(device.memory_gb * 1e9),
        slots=device.slots or 1, threads=device.threads or 1, start_s=_START_S, maximum=_MAXIMUM,
        runtimes=(_RUNTIMES[device.family],),
        source=f"price, memory: published ({device.source}, {device.instance}); start: infaas; maximum: assumed",
    )  # fmt: skip


def _variants(architecture: ArchitectureFigures, device: Device) -> Iterator[CatalogueVariant]:
    if device.family != "neuron" or architecture.neuron:
        yield _variant(architecture, device, _PLAIN[device.family])
    if device.tops_8 is not None and architecture.int8_ratio is not None:
        yield _variant(architecture, device, "int8")


def _variant(architecture: ArchitectureFigures, device: Device, precision: str) -> CatalogueVariant:
    assert architecture.task is not None
    assert architecture.accuracy is not None
    ratio = architecture.int8_ratio if precision == "int8" else None
    weights = architecture.params_m * 1e6 * BYTES[precision]
    latency = tuple(_latency(architecture, device, precision))
    runtime = _RUNTIMES[device.family]
    return CatalogueVariant(
        name=variant_name(architecture.name, runtime.replace("-", ""), precision, device.name),
        task=architecture.task, architecture=architecture.name, hardware=device.name, runtime=runtime,
        precision=precision, max_batch=latency[-1].batch, accuracy=_rounded(architecture.accuracy * (ratio or 1.0)),
        load_s=_rounded(_LOAD_S + weights / _LOAD_BYTES_PER_S),
        memory_bytes=_memory_bytes(architecture, device, precision, latency), threads=device.threads or 1,
        latency=latency, source=f"accuracy, operations: published ({architecture.source}); others: derived",
    )  # fmt: skip


def _latency(architecture: ArchitectureFigures, device: Device, precision: str) -> Iterator[BatchLatency]:
    assert device.p99_ratio is not None
    longest_s = max(_LONG_S, _LONG_GROWTH * latency_s(architecture, device, precision, 1))
    for batch in _BATCHES[device.family]:
        seconds = latency_s(architecture, device, precision, batch)
        if seconds > longest_s:
            return
        yield BatchLatency(batch=batch, p50_s=_rounded(seconds), p99_s=_rounded(seconds * device.p99_ratio))


def _memory_bytes(
    architecture: ArchitectureFigures, device: Device, precision: str, latency: Sequence[BatchLatency]
) -> int:
    held = architecture.params_m + _ALIVE * architecture.acts_m * latency[-1].batch
    return round(_rounded(_RUNTIME_BYTES[device.family] + held * 1e6 * BYTES[precision]))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    write_catalogue(derive(), SHIPPED / f"{NAME}.json")

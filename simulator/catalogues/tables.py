"""Published figures, in CSV files beside this module: architectures, devices, and latencies.

* `architectures.csv`: trained models and what they compute for one input. Those without a task are not in the
  catalogue: latencies of them were published.
* `devices.csv`: what the makers and the lender state of a device. Those without an instance are not in the catalogue.
* `published.csv`: measured latencies. The constants of the formula are fitted to some (`fit`), the others test it.
"""

import csv
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

_FOLDER: Final = Path(__file__).parent
_Row = TypeVar("_Row", bound=msgspec.Struct)


class ArchitectureFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture, as published. Amounts are those of one input."""

    name: str
    task: str | None
    """None: only for tests of the formula."""
    accuracy: float | None
    """Quality by the measure of the task, 0..1."""
    int8_ratio: float | None
    """Accuracy in INT8 over that in FP32, where a publication measured both; None: none was found."""
    params_m: float
    """Million parameters."""
    gmacs: float
    """Billion multiplications with an addition."""
    acts_m: float
    """Million elements that convolutions, products and attention write."""
    kernels: int
    """Convolutions and products in sequence."""
    reads: float
    """Times that a batch reads all parameters; below 1 if most are embeddings, above 1 if words are decoded singly."""
    input_mb: float
    """Megabytes of one input's tensors."""
    neuron: bool
    """True if a publication runs the architecture, or one of its family, on Inferentia."""
    source: str


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Device, as published. Rates are those of one slot: a core, or a whole accelerator."""

    name: str
    family: Literal["cpu", "gpu", "neuron"]
    instance: str | None
    """EC2 instance that has one; None: only for tests of the formula."""
    price_per_hour: float | None
    memory_gb: float | None
    slots: int | None
    threads: int | None
    tflops_32: float | None
    """Peak of FP32, in 10^12 operations a second; a multiplication with an addition is two."""
    tflops_16: float | None
    """Peak of FP16 or BF16."""
    tops_8: float | None
    """Peak of INT8."""
    bandwidth_gbs: float
    """Bandwidth of its memory, in 10^9 bytes a second."""
    p99_ratio: float | None
    """p99 over p50."""
    source: str


class PublishedLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured latency of one batch."""

    hardware: str
    architecture: str
    precision: str
    batch: int
    latency_ms: float
    use: Literal["fit", "test"]
    source: str


def _read(file: str, kind: type[_Row]) -> list[_Row]:
    with (_FOLDER / file).open(encoding="utf-8", newline="") as content:
        plain = [{name: value or None for name, value in row.items()} for row in csv.DictReader(content)]
    return msgspec.convert(plain, list[kind], strict=False)


def read_architectures() -> dict[str, ArchitectureFigures]:
    """Return the architectures by name."""
    return {row.name: row for row in _read("architectures.csv", ArchitectureFigures)}


def read_devices() -> dict[str, Device]:
    """Return the devices by name."""
    return {row.name: row for row in _read("devices.csv", Device)}


def read_published() -> list[PublishedLatency]:
    """Return the published latencies."""
    return _read("published.csv", PublishedLatency)

"""Rows of what is registered: tasks, architectures, variants and their profiles."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from schemas.defaults import PARTITIONS
from schemas.latency import BatchLatency, is_noisy
from schemas.length import LengthLatency
from schemas.rows.processing import Processing
from schemas.rows.tensor_spec import TensorSpec

ACCURACY: Final = "accuracy"
"""The measure of a task that declares none: the share of right answers."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What clients ask for: a signature that every variant of the task fulfils."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    partitions: int = PARTITIONS
    measure: str = ACCURACY
    """How the quality of its answers is measured, e.g. `accuracy`, `f1`: 0..1, and what every `accuracy` here means."""
    measured_output: str = ""
    """The output that is measured; empty: not known."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores, if they have any."""
    reference: str = ""
    """The variant whose outputs stand for labels, where there are none; else empty."""
    removing: bool = False
    """Whether it is being unregistered."""
    created_at: datetime | None = None


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One trained model of a task."""

    name: str
    task: str
    source: str
    """SHA-256 of the registered model file."""
    source_format: str
    """`onnx`, `exported-program` or `openvino`."""
    sample_rows: str = ""
    """SHA-256 of a file with some inputs that it was verified with; empty: none were kept."""
    processing: Processing | None = None
    """What makes its tensors of what clients send; None: they send its tensors."""
    inputs: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, which may be narrower than what its task lets in; empty: not known."""
    made_with: dict[str, str] = {}
    """What its registration was asked for, beside the file: another value is another version."""
    model: str = ""
    """Name that all versions of it share, by which clients ask; as given, empty: its own."""
    version: int = 1
    """Number among the versions of its model, from 1."""
    removing: bool = False
    """Whether it is being unregistered."""
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Fill in the name of the model where there is no other version."""
        if not self.model:
            msgspec.structs.force_setattr(self, "model", self.name)


class VariantState(StrEnum):
    """How far registration came; only a `ready` variant is ever chosen."""

    GENERATED = "generated"
    VERIFIED = "verified"
    READY = "ready"
    REFUSED = "refused"
    REMOVING = "removing"
    """Being unregistered; a state that is only left by going."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An architecture made executable."""

    name: str
    architecture: str
    task: str
    runtime: str
    """Name of a runtime, e.g. `onnx`, `torch-eager`."""
    precision: str
    """Number format, e.g. `fp32`, `int8-dynamic`, `int8-static`."""
    hardware: str
    max_batch: int
    artifact: str
    """SHA-256 of the executable file."""
    state: VariantState
    reason: str = ""
    """Why the variant was refused."""
    partitions: int = PARTITIONS
    """Partitions of the variant's topic: the most replicas that can share its load."""
    mixes_lengths: bool = False
    """Whether inputs of different lengths may share a batch, padded: its answers were seen to stay the same."""
    tuning: str = ""
    """How its numbers were chosen, e.g. `entropy, 2 of 14 layers in fp32`; empty where there was no choice."""
    created_at: datetime | None = None


class AccuracySource(StrEnum):
    """How an accuracy is known: measured here on labelled data, or only declared by who registered the model."""

    MEASURED = "measured"
    DECLARED = "declared"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a variant on its hardware."""

    variant: str
    device: str
    """The exact device, e.g. the CPU's model name."""
    threads: int
    """Threads the variant computed with; on an accelerator 1."""
    load_s: float
    memory_bytes: int
    """Peak growth of the process by loading and running the largest batch."""
    accuracy: float
    """Quality by the task's measure, 0..1."""
    accuracy_source: AccuracySource
    samples: int
    """Inputs behind a measured accuracy; 0 if declared."""
    latency: tuple[BatchLatency, ...]
    intercept_s: float
    slope_s: float
    """Slope of the least-squares line of p50 latency over batch, `intercept_s + slope_s * batch`."""
    fit_error: float
    """Root mean square of the line's relative error."""
    lengths: tuple[LengthLatency, ...] = ()
    """Latency by the length of the inputs, at one batch size; none where no axis but the batch is dynamic."""
    created_at: datetime | None = None

    @property
    def is_noisy(self) -> bool:
        """Whether the latencies should be measured anew: something else had the machine meanwhile."""
        return is_noisy(self.latency)

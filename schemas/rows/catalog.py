"""Rows of the catalog: registered tasks, architectures with their processing steps, variants and their profiles.

Processing steps run before a model (texts and images to tensors) and after it (on its scores). A registration declares
them, and the architecture stores them. Files are named by path in a declaration, and by the SHA-256 of the artifact
after registration.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import replace

from schemas.defaults import PARTITIONS
from schemas.generation import GenerationProfile, makes_text
from schemas.latency import BatchLatency, LengthLatency, is_noisy
from schemas.signature import TensorSpec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Tokenise(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="tokenise", forbid_unknown_fields=True):
    """Convert a text to the model's inputs among `input_ids`, `attention_mask` and `token_type_ids`."""

    tokenizer: str
    """File `tokenizer.json` of the `tokenizers` package."""
    max_tokens: Positive = 512
    """Maximum number of tokens of a text, including the tokens that the tokenizer adds."""
    cut: bool = False
    """True: a longer text is truncated; false: it is refused."""
    input: str = "text"
    """Name under which clients send texts."""


class DecodeImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="image", forbid_unknown_fields=True):
    """Convert a PNG or JPEG file to an array of numbers: `(pixel * scale - mean) / std`."""

    width: Positive
    height: Positive
    channels: Literal["grey", "rgb"] = "rgb"
    shorter_side: Positive | None = None
    """Length to which the shorter side is resized before the centre is cropped; null: the image is stretched to the
    size."""
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    """One number per channel; empty: 0."""
    std: tuple[float, ...] = ()
    """One number per channel; empty: 1."""
    layout: Literal["chw", "hwc"] = "chw"
    input: str = "image"
    """Name under which clients send images."""


class Softmax(msgspec.Struct, frozen=True, tag_field="step", tag="softmax", forbid_unknown_fields=True):
    """Replace scores by probabilities."""


class TopClasses(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="top", forbid_unknown_fields=True):
    """Add the classes with the highest scores, best first, as the output `class`, or `label` if they have names."""

    count: Positive = 1
    labels: str = ""
    """Text file with the name of one class per line; empty: classes are numbers."""


class PoolTokens(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="pool", forbid_unknown_fields=True):
    """Replace vectors of tokens by one vector of the text, the output `sentence_embedding`."""

    mode: Literal["mean", "cls", "last"] = "mean"
    """The mean of the tokens, the first token, or the last one."""
    normalise: bool = False
    """True: the vector is scaled to length 1."""


class Processing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processing steps of a model's variants."""

    before: Tokenise | DecodeImage
    """Step that makes the model's tensors from the only BYTES input that clients send."""
    after: tuple[Softmax | TopClasses | PoolTokens, ...] = ()
    """Steps on the output with the scores, in order."""
    tensors: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, found at registration."""
    returned: tuple[TensorSpec, ...] = ()
    """Outputs of the model itself, found at registration."""
    scores: str = ""
    """Name of the output that the steps after the model change, found at registration."""

    @property
    def declared(self) -> "Processing":
        """Declared steps, without the values found at registration."""
        return replace(self, tensors=(), returned=(), scores="")

    def with_files(self, found: Callable[[str], str]) -> "Processing":
        """Return a copy in which `found` replaces the name of each file."""
        before, after = self.before, list(self.after)
        if isinstance(before, Tokenise):
            before = replace(before, tokenizer=found(before.tokenizer))
        for index, step in enumerate(after):
            if isinstance(step, TopClasses) and step.labels:
                after[index] = replace(step, labels=found(step.labels))
        return replace(self, before=before, after=tuple(after))


ACCURACY: Final = "accuracy"
"""Measure of a task that declares none: the share of correct answers."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Task that clients can query: a signature that every variant of the task implements."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    partitions: int = PARTITIONS
    measure: str = ACCURACY
    """Measure of answer quality on a scale of 0..1, e.g. `accuracy` or `f1`. Every `accuracy` of this task is its
    value."""
    measured_output: str = ""
    """Output that is measured; empty: unknown."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the scores, if they have names."""
    reference: str = ""
    """Variant whose outputs replace labels if the task has no labelled data; empty otherwise."""
    removing: bool = False
    """True while the task is being unregistered."""
    created_at: datetime | None = None

    @property
    def is_generative(self) -> bool:
        """True if its answers are texts that are made token by token."""
        return makes_text(self.inputs, self.outputs)


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """Trained model of a task; each version of a model is an architecture."""

    name: str
    task: str
    source: str
    """SHA-256 of the registered model file."""
    source_format: str
    """`onnx`, `exported-program`, `openvino`, `gguf` or `onnx-decoder`."""
    sample_rows: str = ""
    """SHA-256 of a file with some of the inputs used for verification; empty: none were kept."""
    processing: Processing | None = None
    """Steps that convert between the client's data and the model's tensors; null: clients send the model's tensors."""
    inputs: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, which may be narrower than those of its task; empty: unknown."""
    made_with: dict[str, str] = {}
    """Options of its registration besides the file; a registration with other values makes a new version."""
    model: str = ""
    """Name of the model, which its versions share and clients use; an empty value is replaced by the architecture's
    name."""
    version: int = 1
    """Number of the version within its model, from 1."""
    removing: bool = False
    """True while the architecture is being unregistered."""
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Set the model's name to the architecture's name if it is empty."""
        if not self.model:
            msgspec.structs.force_setattr(self, "model", self.name)


class VariantState(StrEnum):
    """State of a variant's registration; only a `ready` variant is ever chosen."""

    GENERATED = "generated"
    VERIFIED = "verified"
    READY = "ready"
    REFUSED = "refused"
    REMOVING = "removing"
    """Being unregistered; the variant never returns to another state."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """Executable form of an architecture: runtime, precision and hardware."""

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
    """Reason of a refusal."""
    partitions: int = PARTITIONS
    """Partitions of the variant's topics: at least one for each replica, if the broker can add partitions."""
    mixes_lengths: bool = False
    """True if inputs of different lengths may share a padded batch, because a test showed that the answers do not
    change."""
    tuning: str = ""
    """Tuning of the quantisation, e.g. `entropy, 2 of 14 layers in fp32`; empty: there was no choice."""
    created_at: datetime | None = None


class AccuracySource(StrEnum):
    """Source of an accuracy: measured on labelled data, or declared at registration."""

    MEASURED = "measured"
    DECLARED = "declared"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of a variant on its hardware."""

    variant: str
    device: str
    """Exact device, e.g. the CPU's model name."""
    threads: int
    """Threads per batch during profiling; 1 on an accelerator."""
    load_s: float
    memory_bytes: int
    """Peak growth of the process's memory while it loads the model and runs the largest batch."""
    accuracy: float
    """Quality by the task's measure, 0..1."""
    accuracy_source: AccuracySource
    samples: int
    """Number of inputs in the accuracy measurement; 0: the accuracy was declared."""
    latency: tuple[BatchLatency, ...]
    intercept_s: float
    slope_s: float
    """Slope of the least-squares line `intercept_s + slope_s * batch` through the median latencies."""
    fit_error: float
    """Root mean square of the line's relative error."""
    lengths: tuple[LengthLatency, ...] = ()
    """Latency by input length at one batch size; empty if only the batch axis is dynamic."""
    generation: GenerationProfile | None = None
    """Measurements of a generative variant; its `latency` is computed from them. None: it is not generative."""
    created_at: datetime | None = None

    @property
    def is_noisy(self) -> bool:
        """True if other processes disturbed the measurement, so that the latencies should be measured again."""
        return is_noisy(self.latency)

"""Queries taken from a variant's topic, their parts, and the rows of their tensors. Pure."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from broker.kafka.types import Record
from process.tracing.tracer import Span
from runtimes.padding import join_rows
from schemas import headers as h
from schemas.errors import ModelFailed
from schemas.load_classes import COARSEST, ClassKey
from schemas.oip import InferRequest
from schemas.signature import TensorSpec
from schemas.topics import SHADOWS, may_reply_to, results_topic
from workers.slots.batch_queue import NO_DEADLINE

Arrays = dict[str, NDArray[Any]]

_OBJECT_BYTES: Final = 33
"""Bytes of an empty `bytes` object; its content is counted with the record."""


def rows(tensors: Mapping[str, NDArray[Any]], start: int, count: int) -> Arrays:
    """Return `count` inputs from `start` on, as views."""
    return {name: array[start : start + count] for name, array in tensors.items()}


def tensor_bytes(tensors: Mapping[str, NDArray[Any]]) -> int:
    """Return the approximate bytes that tensors take in memory; an element of BYTES is an object of its own."""
    arrays = tensors.values()
    return sum(array.nbytes + array.size * (_OBJECT_BYTES if array.dtype.hasobject else 0) for array in arrays)


def one_for_each(inputs: int, outputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the outputs after a check that there is one for each input.

    Raises:
        ValueError: an output has another number of rows.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != inputs:
            raise ValueError(f"output {name} has shape {list(array.shape)} for a batch of {inputs}")
    return dict(outputs)


def join_outputs(outputs: list[Arrays], specs: Sequence[TensorSpec]) -> Arrays:
    """Join the outputs of the parts of one query; sequences are padded to the longest.

    Raises:
        ModelFailed: their shapes do not fit together.
    """
    try:
        return join_rows(outputs, specs)
    except ValueError as error:
        raise ModelFailed(f"the outputs of the query's {len(outputs)} batches do not fit together: {error}") from error


@dataclass(slots=True, eq=False)
class PendingQuery:
    """Query taken from the variant's topic. `decode_query` fills its fields, and computation fills `outputs`."""

    record: Record
    fields: dict[str, str]
    id: str
    task: InitVar[str]
    reply_to: str = ""
    reply_stream: str = ""
    copied: bool = False
    """True if its result is compared with the result of a shadow copy."""
    model_name: str = ""
    model_version: str = ""
    sent_ns: int = 0
    """Time at which the selector sent it, in ns of this process's monotonic clock."""
    task_queue_ms: float = 0.0
    """Milliseconds from the client's send to the selector's."""
    deadline_s: float = NO_DEADLINE
    """Deadline in seconds of the monotonic clock."""
    class_key: ClassKey = COARSEST
    """Load class of the query; its answer is counted in this class."""
    request: InferRequest | None = None
    signature: tuple[TensorSpec, ...] = ()
    """Outputs of the model."""
    class_names: tuple[str, ...] = ()
    batch: int = 0
    """Number of inputs in the value; 0 until it is decoded."""
    claimed: int = 0
    """Number of inputs according to its header."""
    shape: Hashable = None
    extra_s: float = 0.0
    answered: bool = False
    """True if its result is being sent: its remaining parts need not be computed."""
    started_ns: int = 0
    """Start of its first batch, in ns of the monotonic clock."""
    compute_ns: int = 0
    """Sum of the compute times of its batches, in ns."""
    large_inputs: int = 0
    """Inputs of large queries in the backlog at its arrival, including its own."""
    parts_left: int = 0
    """Number of parts that are not computed yet."""
    outputs: list[Arrays] = field(default_factory=list[Arrays])
    """Outputs, by part."""
    span: Span | None = None
    """Span of its processing, if it is sampled."""

    def __post_init__(self, task: str) -> None:
        fields, topic = self.fields, self.fields.get(h.REPLY_TO)
        # Results may go to a topic that is allowed for clients, or to the one that compares shadow copies.
        allowed = topic and (topic == SHADOWS or may_reply_to(topic, fields.get(h.TENANT)))
        self.reply_to = topic if topic and allowed else results_topic(task)
        self.reply_stream = fields.get(h.REPLY_STREAM, "")
        self.copied = h.COPIED in fields
        self.model_name, _, self.model_version = (fields.get(h.TARGET) or task).partition("@")

    def add(self, number: int, outputs: Arrays, started_ns: int, compute_ns: int) -> bool:
        """Store the outputs of a computed part. Returns true if it was the last part."""
        self.started_ns = self.started_ns or started_ns
        self.compute_ns += compute_ns
        self.outputs[number] = outputs
        self.parts_left -= 1
        return not self.parts_left

    @property
    def unfounded(self) -> int:
        """Number of inputs that the header claims and the value lacks. Selectors have counted these as load."""
        return max(self.claimed - max(self.batch, 1), 0)

    @property
    def is_large(self) -> bool:
        """True if it is computed in pieces."""
        return len(self.outputs) > 1

    @property
    def queue_ns(self) -> int:
        """Nanoseconds between the selector's send and the start of the computation."""
        return max(self.started_ns - self.sent_ns, 0)


@dataclass(slots=True, eq=False)
class QueryPart:
    """Inputs of a query that are computed together: all of them, or one piece of a large query."""

    query: PendingQuery
    number: int
    tensors: Arrays
    inputs: int
    offline: bool
    allow_late: bool
    shape: Hashable
    extra_s: float
    deadline_s: float

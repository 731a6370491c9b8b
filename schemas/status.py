"""Status records over Kafka (JSON), by which workers, selectors and the autoscaler know the present state.

A worker publishes a `WorkerStatus` at each change of state, about every 100 ms while it has queries, and every second
while it has none. Fields with their default values are omitted. A selector adds the records that it has produced since,
so it knows the load without a request: backlog of a partition = end offset (from its own produce acknowledgements or
from the status, whichever is later) - `position` + `queued`.
"""

from enum import StrEnum

import msgspec

from schemas.answer_lengths import LengthCount
from schemas.load_classes import ClassAnswers


class InstanceState(StrEnum):
    """State of a variant on a worker: the states of INFaaS, `draining` (finishes its queries), and `failed`."""

    INACTIVE = "inactive"
    LOADING = "loading"
    ACTIVE = "active"
    OVERLOADED = "overloaded"
    INTERFERED = "interfered"
    DRAINING = "draining"
    FAILED = "failed"
    """The variant cannot be loaded on this worker. It is tried on another worker, and waiting queries get the error."""


SERVING = frozenset({InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.INTERFERED})
"""States in which an instance accepts queries."""


class PartitionStatus(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Partition of one of the variant's topics that the instance owns."""

    partition: int
    position: int
    """Offset of the next record to fetch."""
    end: int
    """End offset as last seen by the worker's consumer; `position` if it has seen none."""


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Variant that is loaded, or being loaded, on the worker."""

    variant: str
    state: InstanceState
    reason: str = ""
    """Reason of the failure, if the state is `failed`."""
    partitions: tuple[PartitionStatus, ...] = ()
    """Partitions of the variant's topic of online queries."""
    offline_partitions: tuple[PartitionStatus, ...] = ()
    """Partitions of the variant's topic of offline queries."""
    queued: int = 0
    """Queries that were fetched and not yet answered."""
    queued_inputs: int = 0
    queued_offline_inputs: int = 0
    """Queued inputs of offline queries, which online queries overtake."""
    queued_large: int = 0
    """Queued online queries that are computed in pieces; other queries are computed between the pieces."""
    queued_large_inputs: int = 0
    large_factor: float = 1.0
    """Ratio of the actual to the predicted time from send to answer of large queries, smoothed."""
    waiting_inputs: tuple[int, ...] = ()
    """Queued inputs of online queries that no batch has begun, by `urgency_level`, without zeros at the end. Large
    queries do not count."""
    done_inputs: float = 0.0
    """Estimated number of online inputs that running batches have computed so far."""
    max_batch: int = 1
    parallel: int = 1
    """Maximum number of its batches that compute at the same time if slots are free."""
    batch_size: float = 0.0
    """Recent mean number of inputs per batch."""
    batch_s: float = 0.0
    """Recent mean seconds of a batch."""
    slowdown: float = 1.0
    """Ratio of measured to predicted latency, smoothed; it shows present interference."""
    correction: float = 1.0
    """Ratio of measured to profiled batch time in long-term operation; predictions include it."""
    queue_slowdown: float = 1.0
    """Time between the ends of consecutive batches while queries wait, over predicted latency, smoothed."""
    answered: int = 0
    """Queries answered since the instance was loaded, including errors."""
    inputs: int = 0
    """Inputs computed and answered since the instance was loaded."""
    late: int = 0
    """Queries computed and answered after their deadline."""
    expired: int = 0
    """Queries answered `deadline_exceeded` without being computed."""
    answer_lengths: tuple[LengthCount, ...] = ()
    """Of a generative variant: its recent answers by length."""


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of one worker."""

    worker: str
    hardware: str
    epoch: int
    """Number that increases with each start of a worker of this name. Statuses with a smaller epoch are void."""
    at_ms: float
    """Send time by the broker's clock, ms since the epoch."""
    slots: int
    """Number of batches that can compute at the same time."""
    price_per_hour: float
    """USD per hour of the whole worker."""
    memory_used: int
    memory_total: int
    """Bytes that the worker may use."""
    instances: tuple[InstanceStatus, ...] = ()
    answers: tuple[ClassAnswers, ...] = ()
    """Queries answered since the previous status, by load class."""
    answer_times: dict[str, dict[int, int]] = {}
    """Histogram of the times from the client's send to the result of online queries, by task and `time_bucket`: once a
    second, of the answers since then. Errors do not count."""
    slot_backlogs_s: tuple[float, ...] = ()
    """Predicted seconds until each slot is free of online work, soonest first. Empty: all slots are free."""
    busy_s: float = 0.0
    """Slot seconds spent computing since the worker started, including running batches."""
    leaving: bool = False
    """True if the worker is shutting down and must get no more queries."""
    interval_ms: float = 100.0
    """Milliseconds until the next status if the state does not change before."""
    threads: int = 1
    """Cores per slot. A batch occupies as many slots as its threads need."""
    cpus: float = 0.0
    """CPUs of the machine, or of the worker's cgroup if it is limited; 0: unknown."""
    cpu_busy: float = 0.0
    """Share of these CPUs' time in use by all processes, smoothed, 0..1."""


class Demand(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Request of a selector for an instance of `variant`, which no worker serves."""

    task: str
    variant: str
    at_ms: float
    """Send time by the broker's clock, ms since the epoch."""
    reason: str

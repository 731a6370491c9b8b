"""What the parts tell one another about the present over Kafka (JSON).

A worker publishes a `WorkerStatus` at each change of state, each ~100 ms while it has queries, and each second while
it has none. The selector adds what it has produced since to know the load without asking anyone: backlog of a partition
= end offset (of its own produce acknowledgements or the status record, whichever is later) - `position` + `queued`.
"""

from enum import StrEnum

import msgspec

from schemas.load_classes import ClassAnswers


class InstanceState(StrEnum):
    """INFaaS's states of a variant on a worker; `draining`, in which it finishes what it holds; and `failed`."""

    INACTIVE = "inactive"
    LOADING = "loading"
    ACTIVE = "active"
    OVERLOADED = "overloaded"
    INTERFERED = "interfered"
    DRAINING = "draining"
    FAILED = "failed"
    """It cannot be loaded there: it is tried on another worker, and what waits for it is answered with the reason."""


SERVING = frozenset({InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.INTERFERED})
"""The states in which an instance takes queries."""


class PartitionStatus(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One partition of a topic of the variant that the instance owns."""

    partition: int
    position: int
    """Offset of the next record to fetch."""
    end: int
    """End offset as last seen by the worker's consumer; `position` if none was seen."""


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One variant loaded, or being loaded, on the worker."""

    variant: str
    state: InstanceState
    reason: str = ""
    """Why it failed, if it did."""
    partitions: tuple[PartitionStatus, ...] = ()
    """Those of the variant's topic of online queries."""
    offline_partitions: tuple[PartitionStatus, ...] = ()
    """The same of its topic of offline queries."""
    queued: int = 0
    """Queries that were fetched and not yet answered."""
    queued_inputs: int = 0
    queued_offline_inputs: int = 0
    """Queued inputs of offline queries, which online ones overtake."""
    queued_large: int = 0
    """Queued online queries that are computed in pieces: others are computed between these."""
    queued_large_inputs: int = 0
    large_factor: float = 1.0
    """Time from the send of a large query to its answer over the predicted one, smoothed."""
    done_inputs: float = 0.0
    """Those of the online ones that are computed by now, as predicted, in batches that have not ended."""
    max_batch: int = 1
    parallel: int = 1
    """Number of its batches that may compute at once, if the worker's slots are free."""
    batch_size: float = 0.0
    """Recent mean number of inputs in a batch."""
    batch_s: float = 0.0
    """Recent mean seconds of a batch."""
    slowdown: float = 1.0
    """Measured latency over the predicted one, smoothed: what interferes now."""
    correction: float = 1.0
    """Times that a batch takes here of what its profile says, as seen over long: predictions hold it."""
    drag: float = 1.0
    """Time from the end of a batch to that of the next, while more waits, over predicted latency, smoothed."""
    answered: int = 0
    """Queries answered since the instance was loaded, errors included."""
    inputs: int = 0
    """Inputs computed and answered since the instance was loaded."""
    late: int = 0
    """Queries computed and answered after their deadline."""
    expired: int = 0
    """Queries answered `deadline_exceeded` without being computed."""


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one worker."""

    worker: str
    hardware: str
    epoch: int
    """Number that grows with each start of a worker of this name: what a predecessor said is void."""
    at_ms: float
    """When it was sent, by the broker's clock, ms since the epoch."""
    slots: int
    """Number of batches that can compute at once."""
    price_per_hour: float
    """USD per hour of the whole worker."""
    backlog_s: float
    """Predicted slot seconds of all online queries fetched and not yet computed; of batches under way what is left."""
    memory_used: int
    memory_total: int
    """Bytes the worker may use."""
    instances: tuple[InstanceStatus, ...] = ()
    answers: tuple[ClassAnswers, ...] = ()
    """Queries answered since the status before, by load class."""
    slot_backlogs_s: tuple[float, ...] = ()
    """The same by slot: predicted seconds until each is free, soonest first. Empty: the worker's version is older."""
    busy_s: float = 0.0
    """Slot seconds spent computing since the worker started, batches under way included."""
    leaving: bool = False
    """Whether the worker is shutting down: send it nothing more."""
    interval_ms: float = 100.0
    """Milliseconds until the worker's next status if nothing happens before."""
    threads: int = 1
    """Cores that a slot has; a batch takes as many slots as what it computes on needs."""
    cpus: float = 0.0
    """CPUs of its machine, or of its cgroup where that may use fewer; 0: not known."""
    cpu_busy: float = 0.0
    """Share of their time that is in use, by whomever, smoothed, 0..1."""


class Demand(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Word of a selector that it needs an instance of `variant`, which nobody serves."""

    task: str
    variant: str
    at_ms: float
    """When it was sent, by the broker's clock, ms since the epoch."""
    reason: str

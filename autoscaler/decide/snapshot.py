"""What a decision is made from: observations, bounds, limits, and what the decision before remembered."""

from enum import StrEnum

import msgspec

from schemas.access import Users
from schemas.defaults import DEFAULT_LATENCY_S, HOP_S
from schemas.load_classes import LoadClass
from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.status import InstanceState
from schemas.versions import Versions


class Policy(StrEnum):
    """What decides on the scale."""

    GREEDY = "greedy"
    """The heuristic alone."""
    MILP = "milp"
    """The solver's last answer, as long as the load fits on it; the heuristic where there is none."""


class ScalingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and weights of a decision."""

    memory_share: float = 0.9
    """Share of a worker's memory that profiles may add up to; the rest is for queries in flight."""
    instances_per_slot: int = 16
    """Loaded variants that share a slot; those that are idle take no time of it."""
    keep_idle_s: float = 300.0
    """Seconds for which a dominated variant stays after its last use."""
    evict_idle_s: float = 2.0
    """Seconds for which a variant must have been idle to give way to one that is demanded, at least."""
    evict_idle_loads: float = 4.0
    """Load times for which it must have been idle: what is slow to load again stays longer."""
    demand_s: float = 10.0
    """Seconds for which a demand that found no room is tried again."""
    leader_grace_s: float = 5.0
    """Seconds after its start in which the autoscaler takes nobody for dead: workers may be starting too."""
    scale_to_zero_delay_s: float = float("inf")
    """Seconds for which a task must have been idle to be unloaded altogether. Off unless a person says so: the first
    query after it pays for a load, and memory that others need is given up by what is idle anyway."""
    downscale_delay_s: float = 30.0
    """Seconds for which fewer instances must have been wanted before there are fewer, at least."""
    downscale_delay_loads: float = 10.0
    """Load times for which fewer must have been wanted: what is slow to load is slow to go."""
    worker_downscale_delay_s: float = 30.0
    """Seconds for which fewer workers must have been wanted before there are fewer, at least."""
    worker_downscale_delay_starts: float = 5.0
    """Start times for which fewer workers must have been wanted."""
    disturbed_s: float = 60.0
    """Seconds of being slower than profiled before a worker is replaced, and between two moves of a variant."""
    headroom: float = 1.4
    """Throughput wanted over load. At INFaaS's slack threshold, 1.05, slots are busy 95 % of the time, and a query
    waits for ten others; at 70 % it waits for one, and there is time for what is not profiled, as starting a worker."""
    hop_s: float = HOP_S
    """Seconds of a latency that the queues take."""
    default_latency_s: float = DEFAULT_LATENCY_S
    """Latency in seconds that is taken for queries that name none."""
    catch_up_s: float = 10.0
    """Seconds within which a backlog shall be worked off beside the load, or as long as new capacity takes to come."""
    offline_drain_s: float = 14_400.0
    """Seconds within which an offline backlog shall be worked off: for what cannot be done by then in idle time there
    is more than the load needs."""
    share_weight: float = 0.1
    """Share of its price that the memory and slots of a running worker, paid for anyway, count for."""
    load_weight_per_s: float = 0.1
    """Weight of a second of loading, INFaaS's lambda: a load of 10 s counts for as much as what is loaded."""
    start_weight_per_s: float = 0.01
    """Weight of a second of starting a worker."""
    accuracy_price: float = 1e-4
    """USD that 1000 inputs' answers are worth more with an accuracy of 1 than of 0."""


class ClassLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of one load class in the recent window. Rates are inputs a second and count refused ones too."""

    load_class: LoadClass
    inputs_per_s: float
    """Mean rate over the window."""
    peak_per_s: float = 0.0
    """Rate of the window's busiest second."""
    mean_batch: float = 1.0
    """Mean number of inputs in a query."""


class InstanceLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of an instance in the recent window."""

    variant: str
    worker: str
    state: InstanceState
    inputs_per_s: float
    """Inputs answered a second."""
    slowdown: float = 1.0
    """Ratio of measured to predicted latency: what interferes now."""
    correction: float = 1.0
    """Ratio of predicted to profiled latency: what was seen there over long."""
    batch_size: float = 0.0


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Queries that wait in a topic, whether anything still arrives there or not."""

    task: str
    variant: str | None = None
    """The variant in whose topic they wait, which alone can answer them; None: any of the task."""
    offline: bool = False
    inputs: float
    age_s: float | None = None
    """Seconds since the oldest came; None is unknown: it came before anybody looked."""


class WorkerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a worker in the recent window."""

    worker: str
    utilisation: float
    """Share of its slots' time spent computing."""
    memory_used: int
    interfered: bool = False
    """Whether it is slower than profiled while not overloaded: it is disturbed from outside."""


class ScaleBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that a person pinned. None is no bound."""

    kind: str
    """What is bounded: instances of a `task` or `variant`, or workers of a `hardware`."""
    name: str
    minimum: int | None = None
    maximum: int | None = None


class HardwareType(msgspec.Struct, frozen=True, kw_only=True):
    """Type of worker that the launcher can start."""

    name: str
    price_per_hour: float
    """Price of one worker in USD."""
    start_s: float
    """Seconds from wanting a worker until it could load its first instance."""
    slots: int
    memory_bytes: int
    maximum: int
    """Number of workers that the launcher may run."""
    prefix: str = ""
    """Beginning of their names."""
    others: tuple[str, ...] = ()
    """Living workers that the launcher did not start, as those of another machine: they come on top of its own."""
    threads: int = 1
    """Cores that a slot has."""
    runtimes: tuple[str, ...] = ()
    """Runtimes that it has; empty if not known before one has started, so that it may be any."""
    stops_highest: bool = False
    """Whether only the worker with the highest number can be stopped, as in a Kubernetes StatefulSet."""


class ScaleDownTimer(msgspec.Struct, frozen=True, kw_only=True):
    """Timer that runs while there is more than is wanted."""

    since_s: float
    maximum: int
    """Highest number that was wanted since."""


class DecisionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a decision for the next one; a new leader begins without. Opaque to others."""

    surplus: dict[str, ScaleDownTimer] = {}
    """Timers of what there is too much of, by name."""
    moved_s: dict[str, float] = {}
    """Time, in `observed_s`, at which it was last moved away from a disturbance, by variant."""


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of what was observed. Ages are seconds."""

    known: bool = True
    """Whether the last reading succeeded. Unknown is not zero: if it failed, the scale is held."""
    workers: tuple[WorkerRow, ...] = ()
    """Rows of workers; `alive` is by heartbeat or status, and not about to leave."""
    instances: tuple[InstanceRow, ...] = ()
    demand_age_s: dict[str, float] = {}
    """Seconds since a selector last asked for it in vain, or queries were seen to wait for it, by variant."""
    asked_age_s: dict[str, float] = {}
    """Seconds since a selector last asked for it in vain, by variant: what waited before that is likely late by now."""
    idle_s: dict[str, float] = {}
    """Seconds since it last answered a query, was demanded or began to serve, by variant."""
    use_rates: dict[str, float] = {}
    """Queries a second that it answered, or for which it was demanded, older ones counting less, by variant."""
    observed_s: float = float("inf")
    """Seconds of watching: nothing can be known to be idle for longer. Also the clock of all delays."""
    classes: tuple[ClassLoad, ...] = ()
    instance_loads: tuple[InstanceLoad, ...] = ()
    worker_loads: tuple[WorkerLoad, ...] = ()
    backlogs: tuple[Backlog, ...] = ()
    hardware: tuple[HardwareType, ...] = ()
    """Types of workers that the launcher can start; where there are none, the workers are those that are there."""
    wanted_workers: dict[str, int] = {}
    """Number of workers wanted so far, by hardware."""
    bounds: tuple[ScaleBounds, ...] = ()
    paused: bool = False
    """Whether a person holds the scale."""
    can_add_partitions: bool = True
    """Whether topics can grow; if not, replicas are at most the partitions."""
    history: dict[str, tuple[float, ...]] = {}
    """Inputs a second of each task, one value a second, the latest last."""
    memory: DecisionMemory = DecisionMemory()
    """Memory that the previous plan left."""
    versions: Versions = Versions()
    """Which version of a model answers which queries."""
    users: Users = {}
    """Tenants that may use a task or an architecture, of those that not everybody may."""

    def idle_of(self, variant: str) -> float:
        """Seconds since the variant was last known to be used or asked for."""
        used_s, demanded_s = self.idle_s.get(variant, self.observed_s), self.demand_age_s.get(variant, self.observed_s)
        return min(used_s, demanded_s, self.observed_s)


def is_schedulable(worker: WorkerRow) -> bool:
    """Whether a worker may be given something new."""
    return worker.alive and not worker.draining

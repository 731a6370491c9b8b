"""What the decision is made from, and what it results in."""

import msgspec

from schemas.defaults import DEFAULT_LATENCY_S, HOP_S
from schemas.load_classes import LoadClass
from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.status import InstanceState


class ScalingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far the decision may go."""

    memory_share: float = 0.9
    """Share of a worker's memory that profiles may add up to; the rest is for queries in flight."""
    instances_per_slot: int = 16
    """Loaded variants a slot is shared by; those that are idle take no time of it."""
    keep_idle_s: float = 300.0
    """How long a dominated variant stays after its last use."""
    evict_idle_s: float = 10.0
    """How long a variant must have been idle to give way to one that is demanded."""
    demand_s: float = 10.0
    """How long a demand that found no room is tried again."""
    leader_grace_s: float = 5.0
    """How long after its start the autoscaler takes nobody for dead: workers may be starting too."""
    scale_to_zero_delay_s: float = float("inf")
    """How long a task must have been idle to be unloaded altogether. Off unless a person says so: the first query after
    it pays for a load, and memory that others need is given up by what is idle anyway."""
    downscale_delay_s: float = 30.0
    """Least time for which fewer instances must have been wanted before there are fewer."""
    downscale_delay_loads: float = 10.0
    """The same in load times: what is slow to load is slow to go."""
    worker_downscale_delay_s: float = 30.0
    """The same for workers, in seconds and in start times."""
    worker_downscale_delay_starts: float = 5.0
    disturbed_s: float = 60.0
    """How long a worker is slower than profiled before another takes its place; and between two moves of a variant."""
    headroom: float = 1.4
    """Throughput wanted over load. At INFaaS's slack threshold, 1.05, slots are busy 95 % of the time, and a query
    waits for ten others; at 70 % it waits for one, and there is time for what is not profiled, as starting a worker."""
    hop_s: float = HOP_S
    """Of a latency, what the queues take."""
    default_latency_s: float = DEFAULT_LATENCY_S
    """Latency taken for queries that name none."""
    catch_up_s: float = 10.0
    """Within this, a backlog shall be worked off beside the load."""
    share_weight: float = 0.1
    """What the memory and slots of a running worker, paid for anyway, count for of its price."""
    load_weight_per_s: float = 0.1
    """INFaaS's lambda: a load of 10 s counts for as much as what is loaded."""
    start_weight_per_s: float = 0.01
    """The same of starting a worker."""
    accuracy_price: float = 1e-4
    """USD that 1000 inputs' answers are worth more with an accuracy of 1 than of 0."""


class ClassLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one needs class in the recent window. Rates are inputs a second and count refused ones too."""

    load_class: LoadClass
    inputs_per_s: float
    """Mean over the window."""
    peak_per_s: float = 0.0
    """Of the window's busiest second."""
    mean_batch: float = 1.0
    """Inputs in a query."""


class InstanceLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance did in the recent window."""

    variant: str
    worker: str
    state: InstanceState
    inputs_per_s: float
    """Answered."""
    slowdown: float = 1.0
    """Measured over profiled latency."""
    batch_size: float = 0.0
    backlog_inputs: float = 0.0
    lag_s: float | None = None
    """Age of its oldest unanswered query; None is unknown."""


class WorkerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker did in the recent window."""

    worker: str
    utilisation: float
    """Share of its slots' time spent computing."""
    memory_used: int
    interfered: bool = False
    """Slower than profiled while not overloaded: it is disturbed from outside."""


class ScaleBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a person pinned. None is no bound."""

    kind: str
    """`task` or `variant` (bounds instances), or `hardware` (bounds workers)."""
    name: str
    minimum: int | None = None
    maximum: int | None = None


class HardwareType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of worker that the launcher can start."""

    name: str
    price_per_hour: float
    """USD of one worker."""
    start_s: float
    """From the wish to the first instance it could load."""
    slots: int
    memory_bytes: int
    maximum: int
    """Workers the launcher may run."""
    runtimes: tuple[str, ...] = ()
    """None: not known before one has started, so it may be any."""
    stops_highest: bool = False
    """Only the worker with the highest number can be stopped, as in a Kubernetes StatefulSet."""


class ScaleDownTimer(msgspec.Struct, frozen=True, kw_only=True):
    """There is more than is wanted."""

    since_s: float
    maximum: int
    """The most that was wanted since."""


class DecisionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision remembers from one time to the next; a new leader begins without. Opaque to others."""

    surplus: dict[str, ScaleDownTimer] = {}
    moved_s: dict[str, float] = {}
    """By variant, when it was last given another place since its own was disturbed."""


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed. Ages are seconds."""

    known: bool = True
    """False when the last reading failed. Unknown is not zero: the scale is held."""
    workers: tuple[WorkerRow, ...] = ()
    """`alive`: by heartbeat or status, and not about to leave."""
    instances: tuple[InstanceRow, ...] = ()
    demand_age_s: dict[str, float] = {}
    """By variant, since a selector last asked for it in vain."""
    idle_s: dict[str, float] = {}
    """By variant, since it last answered a query or was demanded."""
    observed_s: float = float("inf")
    """How long we have been watching: nothing can be known to be idle for longer. Also the clock of all delays."""
    classes: tuple[ClassLoad, ...] = ()
    instance_loads: tuple[InstanceLoad, ...] = ()
    worker_loads: tuple[WorkerLoad, ...] = ()
    hardware: tuple[HardwareType, ...] = ()
    """What the launcher can start; none: the workers are those that are there."""
    wanted_workers: dict[str, int] = {}
    """By hardware type, as wished so far."""
    bounds: tuple[ScaleBounds, ...] = ()
    paused: bool = False
    """A person holds the scale."""
    can_add_partitions: bool = True
    """False on a broker whose topics cannot grow: replicas are then at most the partitions."""
    history: dict[str, tuple[float, ...]] = {}
    """By task: inputs a second, one value a second, the latest last."""
    memory: DecisionMemory = DecisionMemory()
    """As the previous plan left it."""

    def idle_of(self, variant: str) -> float:
        """Seconds since the variant was last known to be used or asked for."""
        used_s, demanded_s = self.idle_s.get(variant, self.observed_s), self.demand_age_s.get(variant, self.observed_s)
        return min(used_s, demanded_s, self.observed_s)

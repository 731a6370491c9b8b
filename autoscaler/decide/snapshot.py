"""Input of a decision: observations, bounds, limits, and the memory of the previous decision."""

from enum import StrEnum

import msgspec

from schemas.access import Users
from schemas.answer_lengths import LengthCount
from schemas.defaults import DEFAULT_LATENCY_S, HOP_S
from schemas.load_classes import LoadClass
from schemas.rows.cluster import InstanceRow, Pin, WorkerRow
from schemas.status import InstanceState
from schemas.versions import Versions


class Policy(StrEnum):
    """Policy that decides on the scale."""

    GREEDY = "greedy"
    """The heuristic alone."""
    MILP = "milp"
    """The solver's latest targets while the load fits them; else the heuristic."""


class ScalingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and weights of a decision; `autoscaler.settings` describes the settings among them."""

    memory_share: float = 0.9
    instances_per_slot: int = 16
    """Number of instances per slot of a worker; idle instances use no slot time."""
    keep_idle_s: float = 300.0
    evict_idle_s: float = 2.0
    evict_idle_loads: float = 4.0
    demand_s: float = 10.0
    """Seconds for which an unplaced demand is tried again."""
    leader_grace_s: float = 5.0
    """No worker counts as dead meanwhile, because workers may be starting, too."""
    scale_to_zero_delay_s: float = float("inf")
    downscale_delay_s: float = 30.0
    downscale_delay_loads: float = 10.0
    worker_downscale_delay_starts: float = 1.0
    headroom: float = 1.4
    """Ratio of wanted throughput to load at one busy slot, see `throughput.headroom_of`. At INFaaS's slack threshold of
    1.05 the slot is 95 % busy and a query waits for about ten others. At 1.4 it is 70 % busy: a query waits for one,
    and unprofiled work such as starting a worker has time.
    """
    hop_s: float = HOP_S
    """Part of a latency that the queues take, in seconds."""
    default_latency_s: float = DEFAULT_LATENCY_S
    """Assumed latency in seconds of queries that name none."""
    catch_up_s: float = 10.0
    """Seconds in which to work off an online backlog, or as long as new capacity needs if that is longer."""
    offline_drain_s: float = 14_400.0
    share_weight: float = 0.1
    """Weight of memory and slots on running workers, as a share of their price; the worker is paid for anyway."""
    load_weight_per_s: float = 0.1
    """Weight of a second of loading, INFaaS's lambda: at 0.1 a load of 10 s counts as much as holding the instance."""
    accuracy_price: float = 1e-4
    """Value in USD per 1000 inputs of accuracy 1 over accuracy 0."""


class ClassLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of one load class in the recent window. Rates are inputs a second, refused queries included."""

    load_class: LoadClass
    inputs_per_s: float
    """Mean rate over the window."""
    peak_per_s: float = 0.0
    """Rate of the third-busiest second of the last minute; 0 in the first two seconds."""
    mean_batch: float = 1.0
    """Mean number of inputs in a query."""
    age_s: float = 0.0
    """Seconds since the window held a query of the class; above 0, its rate is that of the time since."""


class InstanceLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of an instance in the recent window."""

    variant: str
    worker: str
    state: InstanceState
    inputs_per_s: float
    """Answered inputs a second."""
    slowdown: float = 1.0
    """Ratio of measured to predicted latency: present interference."""
    correction: float = 1.0
    """Ratio of predicted to profiled latency: long-term correction of the profile on this worker."""
    answer_lengths: tuple[LengthCount, ...] = ()
    """Of a generative variant: its recent answers by length."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Queries that wait in a topic, whether others still arrive or not."""

    task: str
    variant: str | None = None
    """Variant whose topic holds them; None if any variant of the task may answer."""
    offline: bool = False
    inputs: float
    age_s: float | None = None
    """Age of the oldest in seconds; None if it is older than the observation."""
    left_s: float | None = None
    """Seconds until they are due, if they are offline and have a deadline; some may be in no topic yet."""


class WorkerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a worker in the recent window."""

    worker: str
    utilisation: float
    """Share of its slots' time spent computing."""
    memory_used: int
    interfered: bool = False
    """True if it is slower than profiled while not overloaded: other programs disturb it."""


class HardwareType(msgspec.Struct, frozen=True, kw_only=True):
    """Type of worker that the launcher can start."""

    name: str
    price_per_hour: float
    """Price of one worker in USD."""
    start_s: float
    """Seconds from the wish for a worker until it can load its first instance."""
    slots: int
    memory_bytes: int
    maximum: int
    """Maximum number of workers of the launcher."""
    prefix: str = ""
    """Prefix of their names."""
    others: tuple[str, ...] = ()
    """Living workers that the launcher did not start, e.g. on another machine; its maximum does not count them."""
    threads: int = 1
    """Cores of a slot."""
    runtimes: tuple[str, ...] = ()
    """Runtimes of the worker; empty if unknown before the first has started, which allows any."""
    stops_highest: bool = False
    """True if only the worker with the highest number can be stopped, as in a Kubernetes StatefulSet."""


class ScaleDownTimer(msgspec.Struct, frozen=True, kw_only=True):
    """Timer that runs while there is more than is wanted."""

    since_s: float
    maximum: int
    """Highest number wanted since then."""


class DecisionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a decision for the next one; a new leader starts without. Opaque to other code."""

    surplus: dict[str, ScaleDownTimer] = {}
    """Timers of surplus, by name."""


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of the observations. Ages are in seconds."""

    known: bool = True
    """True if the last reading succeeded. Unknown is not zero: after a failure the scale is held."""
    workers: tuple[WorkerRow, ...] = ()
    """Rows of workers; `alive` means a recent heartbeat or status, and not about to leave."""
    instances: tuple[InstanceRow, ...] = ()
    demand_age_s: dict[str, float] = {}
    """Seconds since a selector last demanded a variant, or queries were seen waiting for it; by variant."""
    asked_age_s: dict[str, float] = {}
    """Seconds since a selector last demanded a variant; queries from before that are likely late by now."""
    idle_s: dict[str, float] = {}
    """Seconds since a variant last answered a query, was demanded or began to serve."""
    use_rates: dict[str, float] = {}
    """Uses a second by variant, with exponential decay: answered queries and demands."""
    observed_s: float = float("inf")
    """Seconds of observation, the upper limit of any known idle time. It is also the clock of all delays."""
    classes: tuple[ClassLoad, ...] = ()
    instance_loads: tuple[InstanceLoad, ...] = ()
    worker_loads: tuple[WorkerLoad, ...] = ()
    backlogs: tuple[Backlog, ...] = ()
    hardware: tuple[HardwareType, ...] = ()
    """Types of workers that the launcher can start; without any, the number of workers is fixed."""
    wanted_workers: dict[str, int] = {}
    """Number of workers wanted so far, by hardware."""
    bounds: tuple[Pin, ...] = ()
    """Pinned bounds, with the minimums of workers from the settings."""
    paused: bool = False
    """True if a person has paused scaling."""
    can_add_partitions: bool = True
    """True if topics can grow; if not, partitions limit the replicas."""
    history: dict[str, tuple[float, ...]] = {}
    """Inputs a second of each task, one value a second, the latest last."""
    memory: DecisionMemory = DecisionMemory()
    """Memory of the previous plan."""
    versions: Versions = Versions()
    """Rollouts: the version of a model that answers a query."""
    users: Users = {}
    """Tenants that may use a task or an architecture; public names are absent."""

    def idle_of(self, variant: str) -> float:
        """Return the seconds since the variant was last known to be used or demanded."""
        used_s, demanded_s = self.idle_s.get(variant, self.observed_s), self.demand_age_s.get(variant, self.observed_s)
        return min(used_s, demanded_s, self.observed_s)


def is_schedulable(worker: WorkerRow) -> bool:
    """Return true if a worker may be given instances."""
    return worker.alive and not worker.draining

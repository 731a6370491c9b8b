"""Workers and their instances.

Mutable records that only `ClusterState` changes; the policy only reads them. Times are seconds of one monotonic clock,
which the caller passes; work is counted in inputs. A status computes all that the policy reads for every query.

The backlog of an instance is known exactly when a status arrives: the records of its topics beyond the worker's
position, and the queries that the worker holds. Between two statuses (100 ms, in which a fast instance answers a
hundred queries) it is modelled as a bucket: each send fills it, and it drains at the instance's last rate.
"""

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.hardware import after_batch, slots_taken
from schemas.latency import LatencyModel
from schemas.status import InstanceStatus, WorkerStatus
from schemas.urgency import LEAST_URGENT, urgency_level
from selector.policy.partition import Partition, Unread, take_offsets
from selector.policy.send_rate import SendRate
from selector.policy.variants import PricedVariant
from selector.policy.worker_kind import WorkerKind

_SMOOTHING: Final = 0.1
_MAX_HOP_S: Final = 0.25
_LEAST_S: Final = 1e-6


@dataclass(slots=True, eq=False, repr=False)
class Worker:
    """One worker, as its last status described it."""

    name: str
    hardware: str
    epoch: int
    slots: int
    kind: WorkerKind
    hop_s: float
    """Seconds that a query takes to the worker and its result takes back, smoothed."""
    status_at: float = 0.0
    stated_at: float = 0.0
    """Time at which it made its last status, by the estimated hop; levels of urgency count from it."""
    expires_at: float = 0.0
    """Time at which its last status becomes invalid and the worker counts as gone."""
    free_at: list[float] = field(default_factory=list[float])
    """Time at which each slot will have finished its known work, soonest first."""
    later_s: list[float] = field(default_factory=lambda: [0.0] * (LEAST_URGENT + 1))
    """Mean seconds of a slot for waiting work beyond each level of urgency, which a query of that level overtakes."""
    blocking_s: float = _LEAST_S
    """Seconds from one to the next end of a batch while slots compute such work."""
    sent_to: "set[Instance]" = field(default_factory=set["Instance"])
    """Its instances that were sent an online query since the last status."""
    busy: int = 0
    """Slots that its instances had work for at the last status."""
    load_s: float = 0.0
    """Slot seconds of that work."""
    widest: int = 1
    """Largest width of an instance that it has had."""
    waits: bool = False
    """True if the widest instance would have had to wait for slots at the last status."""
    online_at: float = -math.inf
    """Time at which it was last known to have an online query."""
    sends: SendRate = field(default_factory=SendRate)
    cpus: float = 0.0
    """CPUs of its machine; 0 is unknown."""
    cpu_busy: float = 0.0
    """Share of their time in use, by any process."""
    instances: "dict[str, Instance]" = field(default_factory=dict[str, "Instance"])

    def __post_init__(self) -> None:
        self.free_at = [0.0] * self.slots

    def measure_hop(self, one_way_s: float) -> None:
        """Take the delay of a status into account."""
        one_way_s = min(max(one_way_s, 0.0), _MAX_HOP_S / 2)
        self.hop_s += _SMOOTHING * (2 * one_way_s - self.hop_s)

    def news(self, reported: Iterable[InstanceStatus]) -> list[InstanceStatus]:
        """Return those of the instances in its status that are not at rest, or differ from its last status."""
        known, found = self.instances, list[InstanceStatus]()
        for one in reported:
            instance = known.get(one.variant)
            if instance is None or instance.reported != one or one.queued or not instance.is_at_rest():
                found.append(one)
        return found

    def take_status(
        self, reported: WorkerStatus, news: Iterable[InstanceStatus], now: float, ttl_s: float
    ) -> Iterable["Instance"]:
        """Update it, and its instances in `news`, from its status, which is valid for `ttl_s`.

        Returns the instances that may have another place among the replicas of their variant.
        """
        self.sends.settle(now - self.status_at)
        self.status_at, self.stated_at, self.expires_at = now, now - self.hop_s / 2, now + ttl_s
        self.cpus, self.cpu_busy = reported.cpus, reported.cpu_busy
        free = [0.0] * (self.slots - len(reported.slot_backlogs_s))
        self.free_at = [now + backlog_s for backlog_s in (*free, *reported.slot_backlogs_s)]
        self.sent_to.clear()
        self.busy, self.load_s = 0, 0.0
        self.later_s, self.blocking_s = [0.0] * (LEAST_URGENT + 1), _LEAST_S
        changed: list[Instance] = []
        for of_instance in news:
            if instance := self.instances.get(of_instance.variant):
                instance.take_status(of_instance, now)
                instance.reported = of_instance
                self.busy += instance.busy
                self.load_s += instance.load_s
                changed.append(instance)
        for instance in changed:
            instance.share_slots(now)
        waited, self.waits = self.waits, self.wait_s(now, self.widest) > 0.0
        if not (waited or self.waits):
            return changed
        for instance in self.instances.values():  # those at rest wait for others, or have waited
            instance.free_at = now + instance.work_s(now)
        return self.instances.values()

    def take_work(self, instance: "Instance", waiting: float, inputs: int, now: float, due_s: float) -> None:
        """Count an online query sent to an instance with `waiting` inputs: it takes the slots that are free first."""
        self.take_inputs(instance, int(waiting + 0.5), inputs, now, urgency_level(due_s - self.stated_at))

    def take_inputs(self, instance: "Instance", waiting: int, inputs: int, now: float, level: int = 0) -> None:
        """Count inputs of an instance that has `waiting` inputs before them."""
        model = instance.model
        before = waiting % model.max_batch  # they join the last batch
        seconds = (model.batch_s(before + inputs) - model.batch_s(before)) * instance.slowdown
        if level and self.wait_s(now, instance.width) > 0.0:  # else they are computed at once
            instance.add_later(inputs, level)
            self.add_later(instance, seconds, level)
        self.sent_to.add(instance)
        if inputs <= model.max_batch and instance.width == 1:  # nearly always
            first, *rest = self.free_at
            insort(rest, (first if first > now else now) + seconds)
            self.free_at = rest
            return
        for _ in range(batches := min(math.ceil(inputs / model.max_batch), instance.parallel)):  # run in parallel
            self.free_at = after_batch(self.free_at, seconds / batches, instance.width, now)

    def add_later(self, instance: "Instance", seconds: float, level: int) -> None:
        """Count waiting work of an instance as work that queries of the levels below `level` overtake."""
        later_s, mean_s = self.later_s, seconds * instance.width / self.slots
        for place in range(level):
            later_s[place] += mean_s
        model = instance.model
        batch_s = model.batch_s(min(instance.later_inputs[0], model.best_batch)) * instance.slowdown
        self.blocking_s = max(self.blocking_s, batch_s / self.slots)

    def wait_s(self, now: float, width: int) -> float:
        """Return the seconds until `width` slots are free, or all slots if the worker has fewer."""
        return max(self.free_at[min(width, self.slots) - 1] - now, 0.0)

    def has_free_slots(self, width: int, now: float) -> bool:
        """Return true if the work of its instances, offline work included, leaves `width` slots."""
        return sum([instance.occupied_slots(now) for instance in self.instances.values()]) + width <= self.slots

    def mean_wait_s(self, now: float) -> float:
        """Return the mean seconds until its slots have finished their known work."""
        return sum([free_at - now for free_at in self.free_at if free_at > now]) / self.slots


@dataclass(slots=True, eq=False, repr=False)
class Instance:
    """One variant on one worker that takes queries."""

    variant: PricedVariant
    worker: Worker
    partitions: tuple[Partition, ...]
    offline_partitions: tuple[Partition, ...]
    """Empty until the worker has begun to read them."""
    model: LatencyModel
    reported: InstanceStatus | None = None
    """Its last status; None if the next one must be taken, whether it differs or not."""
    input_s: float = 0.0
    """Seconds of an input in full batches."""
    single_s: float = 0.0
    """Seconds of a batch of one input."""
    width: int = 1
    """Slots that one of its batches takes."""
    slowdown: float = 1.0
    """Ratio of measured to profiled latency of a batch, at least 1."""
    slots: float = 1.0
    """Number of parallel batches that it can expect slots for, see `share_slots`."""
    slot_rate: float = 1.0
    """Inputs a second that it computes in consecutive batches of one slot."""
    effective_slowdown: float = 1.0
    """Ratio of a batch's whole time in a busy queue to its profiled latency, at least `slowdown`."""
    rate: float = 1.0
    """Inputs a second at which it works off its backlog."""
    level: float = 0.0
    """Inputs of online queries waiting or in computation, as of `level_at`."""
    level_at: float = 0.0
    later_inputs: list[int] = field(default_factory=lambda: [0] * (LEAST_URGENT + 1))
    """Inputs among these that wait and are beyond each level of urgency; a query of that level overtakes them."""
    mean_inputs: float = 1.0
    """Mean inputs of a query among these, at most a batch; one slot computes them together."""
    large_inputs: int = 0
    """Inputs of large online queries at the last status and sent since then; other queries are computed between."""
    large_factor: float = 1.0
    """Ratio of measured to predicted time of a large query, at least 1."""
    offline_inputs: float = 0.0
    """Inputs of offline queries at the last status and sent since then; online queries overtake them."""
    parallel: int = 1
    """Number of its batches that may run in parallel, if slots are free."""
    busy: int = 0
    """Slots that it had online work for at the last status."""
    load_s: float = 0.0
    """Slot seconds of that work."""
    shared_at: float = -math.inf
    """Time of the worker's status by which `slots` and `rate` were computed."""
    turn: int = 0
    """Number of queries sent, to use its partitions in turn."""
    free_at: float = 0.0
    """Time at which it will have finished its work, as of the last status or send."""

    def __post_init__(self) -> None:
        self.use_model(self.model)
        self.use_variant(self.variant)

    def use_model(self, model: LatencyModel) -> None:
        """Set its latency model, which may have another correction or largest batch."""
        self.model = model
        self.input_s = model.input_s()
        self.single_s = model.batch_s(1)

    def use_variant(self, variant: PricedVariant) -> None:
        """Set its variant, which may have a new profile."""
        self.variant = variant
        self.width = slots_taken(self.worker.hardware, variant.threads, self.worker.kind.core_price.slot_threads)
        self.worker.widest = max(self.worker.widest, self.width)

    @property
    def next_partition(self) -> Partition:
        """The partition of its online topic whose turn it is."""
        return self.partitions[self.turn % len(self.partitions)]

    def waiting(self, now: float) -> float:
        """Return the inputs of online queries waiting or in computation at `now`."""
        left = self.level - (now - self.level_at) * self.rate
        return left if left > 0.0 else 0.0

    def waiting_in_slot(self, now: float, level: int = LEAST_URGENT) -> int:
        """Return one slot's share of the inputs that a query of this level waits for; 0 while a slot is free."""
        waiting, overtaken = self.waiting(now), self.later_inputs[level]
        if overtaken:
            waiting = max(waiting - overtaken, 0.0)
        queries = int((waiting / self.mean_inputs + 0.5) / max(self.slots, 1.0))
        return int(queries * self.mean_inputs)

    def occupied_slots(self, now: float) -> int:
        """Return the slots that it has work for at `now`, offline work included."""
        online = int(self.waiting(now) / self.mean_inputs)
        return min(online + math.ceil(self.offline_inputs), self.parallel) * self.width

    def has_free_slots(self, now: float) -> bool:
        """Return true if all work that its worker has, offline work included, leaves slots for one more batch of it."""
        return self.occupied_slots(now) < self.parallel * self.width and self.worker.has_free_slots(self.width, now)

    @property
    def lacks_slot(self) -> bool:
        """True if other instances of its worker left too few slots for a batch at the last status."""
        worker = self.worker
        return worker.busy - self.busy + self.width > worker.slots

    def is_at_rest(self) -> bool:
        """Return true if statuses, sends and acknowledgements show no work of it."""
        if self.level or self.offline_inputs or self.large_inputs:
            return False
        for partition in self.partitions:  # noqa: SIM110 - runs for each instance of each status
            if partition.unacked or partition.end != partition.position:
                return False
        return True

    @property
    def has_background_work(self) -> bool:
        """True if it has offline or large queries, which online queries overtake except for the running batch."""
        return self.offline_inputs > 0.0 or self.large_inputs > 0

    def add(self, waiting: float, inputs: int, now: float) -> None:
        """Count the inputs of an online query that is sent now, where `waiting` inputs are waiting."""
        self.level, self.level_at = waiting + inputs, now
        if inputs != 1 or self.mean_inputs != 1.0:  # else all are of one input
            self._mean_of(self.level, waiting / self.mean_inputs + 1.0)

    def take_status(self, reported: InstanceStatus, now: float) -> None:
        """Update it from its worker's status."""
        unread = take_offsets(self.partitions, reported.partitions, reported.queued == 0, now)
        unread_offline = take_offsets(self.offline_partitions, reported.offline_partitions, reported.queued == 0, now)
        if self.model.correction != reported.correction:
            self.use_model(self.variant.model_of(reported.max_batch, reported.correction))
        self.slowdown = max(reported.slowdown, 1.0)
        self.effective_slowdown = max(reported.queue_slowdown, self.slowdown)
        self.large_factor = max(reported.large_factor, 1.0)
        self.parallel = reported.parallel
        self.offline_inputs = reported.queued_offline_inputs + unread_offline.inputs
        self.large_inputs = reported.queued_large_inputs + unread.large_inputs
        self._take_later(reported.waiting_inputs, unread.inputs)
        self._take_level(reported, unread, now)
        self._take_slot_rate(reported)

    def add_later(self, inputs: int, level: int) -> None:
        """Count waiting inputs as ones that its queries of the levels below `level` overtake."""
        for place in range(level):
            self.later_inputs[place] += inputs

    def _take_later(self, reported: Sequence[int], unread: float) -> None:
        """Set the work that others overtake. Unread queries are taken for as urgent as the waiting ones.

        Queries of its own do not overtake unread ones, because a worker reads in the order of the log.
        """
        self.later_inputs = [0] * (LEAST_URGENT + 1)
        waiting = sum(reported)
        seconds = self.model.batch_s(waiting + int(unread)) * self.slowdown
        for level, inputs in enumerate(reported):
            if inputs:
                self.add_later(inputs, level)
                self.worker.add_later(self, seconds * inputs / waiting, level)

    def _take_level(self, reported: InstanceStatus, unread: Unread, now: float) -> None:
        """Set its backlog, and count unread queries at its worker, which does not know them."""
        queued_online = max(reported.queued_inputs - reported.queued_offline_inputs - reported.queued_large_inputs, 0)
        if queued_online or reported.queued_large:
            self.worker.online_at = now
        self.level = max(queued_online - reported.done_inputs, 0.0) + unread.inputs
        self.level_at = now
        if reported.queued > reported.queued_large and not reported.queued_offline_inputs:
            self._mean_of(queued_online, reported.queued - reported.queued_large)
        else:
            self._mean_of(unread.mean_inputs, 1.0)
        self.busy = min(reported.parallel, math.ceil(self.level / self.mean_inputs)) * self.width
        self.load_s = self.level * self.input_s * self.slowdown * self.width
        if inputs := int(unread.inputs + 0.5):
            self.worker.take_inputs(self, int(self.level + 0.5) - inputs, inputs, now)

    def _take_slot_rate(self, reported: InstanceStatus) -> None:
        """Set the inputs a second of one slot: as measured, at least one by one, at most in full batches."""
        alone = 1.0 / max(self.single_s * self.slowdown, 1e-6)
        recent = reported.batch_size / reported.batch_s if reported.batch_s > 0 else 0.0
        in_a_row = 1.0 / max(self.input_s * self.effective_slowdown, 1e-6)
        self.slot_rate = min(max(alone, recent), in_a_row)

    def _mean_of(self, inputs: float, queries: float) -> None:
        self.mean_inputs = min(max(inputs / queries, 1.0), float(self.model.max_batch))

    def share_slots(self, now: float) -> None:
        """Set the slots to expect: the ones that others leave, or a share if all want more than exist.

        Slots are served first come, first served, so an instance with more work than others gets a larger share.
        """
        worker = self.worker
        others, most = worker.busy - self.busy, min(self.parallel * self.width, worker.slots)
        wanted = max(self.busy, min(most, worker.slots - others), self.width)
        share = min(1.0, worker.slots / (others + wanted)) * wanted
        share_of_work = most * self.load_s / worker.load_s if worker.load_s else 0.0
        self.slots = max(share, share_of_work) / self.width
        self.rate = self.slot_rate * self.slots
        self.free_at, self.shared_at = now + self.work_s(now), worker.status_at

    def refresh_share(self, now: float) -> None:
        """Share the slots by its worker's last status, if that was not done because it had no work."""
        if self.shared_at != self.worker.status_at:
            self.share_slots(now)

    def is_blocked(self, now: float) -> bool:
        """Return true if other instances leave too few slots, or may by sends since the last status."""
        return self.lacks_slot or self.worker.wait_s(now, self.width) > 0.0

    def others_wait_s(self, now: float, level: int = LEAST_URGENT) -> float:
        """Return the seconds until other instances of its worker leave enough slots for a query of this level.

        Nothing is preempted: if only less urgent work is left, its batches follow one another, and the query waits for
        the end of one.
        """
        worker = self.worker
        if worker.free_at[-1] <= now:
            return 0.0
        wait_s, overtaken_s = worker.wait_s(now, self.width), worker.later_s[level]
        if overtaken_s > wait_s:
            return min((wait_s - overtaken_s) % worker.blocking_s, wait_s)
        compete = self.lacks_slot or len(worker.sent_to) > (self in worker.sent_to)
        return wait_s - overtaken_s if compete else 0.0

    def work_s(self, now: float) -> float:
        """Return the seconds of online work: its own at its rate, or its worker's before it, whichever is longer."""
        own_s = self.waiting(now) / self.rate if self.level else 0.0
        return max(own_s, self.others_wait_s(now))

"""The selector's view of the world: the catalog, what the workers say, and what was sent since.

Only this file changes the live records. It is told everything (catalog, statuses, sends, acknowledgements, the time)
and asks nobody, so a test can tell it any story. Rules:

* A worker is believed for `status_ttl_s` after its status; a status of an older epoch is void.
* The end of a partition is the latest of acknowledgements and statuses. It goes back only when the instance that
  serves it holds nothing, has read all it sees, and was sent nothing for a while: then the topic was made anew.
* Cached decisions of a task are dropped when its offers or serving instances, or what could be loaded, change. Health
  changes often and is checked at each decision instead.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from schemas.defaults import HOP_S
from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, Variant
from schemas.status import SERVING, InstanceState, InstanceStatus, WorkerStatus
from selector.candidates import TaskCandidates
from selector.entities import Instance, Partition, Worker
from selector.variants import PricedVariant

STATUS_TTL_S: Final = 1.0
_MAX_HOP_S: Final = 0.25
_SMOOTHING: Final = 0.1
_QUIET_S: Final = 2.0


class ClusterState:
    """Tasks, workers and partitions as known now.

    Args:
        status_ttl_s: how long a worker's status stands.
        hop_s: assumed of a worker until its statuses have shown how long a record takes.
    """

    def __init__(self, status_ttl_s: float = STATUS_TTL_S, hop_s: float = HOP_S) -> None:
        self.hop_s = hop_s
        self.tasks: dict[str, TaskCandidates] = {}
        self.workers: dict[str, Worker] = {}
        self.newly_served: list[PricedVariant] = []
        """Offers that got an instance since the owner of this world last cleared the list."""
        self._believe_s = status_ttl_s
        self._offers: dict[str, PricedVariant] = {}
        self._partitions: dict[str, list[Partition]] = {}
        self._prices: dict[str, float] = {}
        self._loadable: dict[str, int] = {}

    # -- what is registered --------------------------------------------------------------------------------------------

    def register(
        self, tasks: Iterable[str], variants: Iterable[Variant], profiles: Mapping[str, Profile]
    ) -> list[PricedVariant]:
        """Take a new catalog; tasks whose variants are as before keep their cached decisions.

        Returns the offers whose topics have more partitions than before.
        """
        known, self._offers = self._offers, {}
        for variant in variants:
            profile = profiles.get(variant.name)
            if profile is not None:
                self._offers[variant.name] = self._offer(known.get(variant.name), variant, profile)
        self._partitions = {name: kept for name, kept in self._partitions.items() if name in self._offers}
        self._arrange(list(tasks))
        return [o for o in self._offers.values() if o.name in known and o.partitions > known[o.name].partitions]

    def partitions(self, offer: PricedVariant) -> list[Partition]:
        """The partitions of the variant's topic, as far as known, by number."""
        known = self._partitions.setdefault(offer.name, [])
        known += map(Partition, range(len(known), offer.partitions))
        return known

    def _offer(self, old: PricedVariant | None, variant: Variant, profile: Profile) -> PricedVariant:
        price = self._prices.get(variant.hardware)
        if old is not None and old.variant == variant and old.profile == profile and price in (None, old.price):
            return old
        return PricedVariant(variant, profile, price)

    def _arrange(self, tasks: Iterable[str]) -> None:
        by_task: dict[str, list[PricedVariant]] = {task: [] for task in tasks}
        for offer in self._offers.values():
            if offer.task in by_task:
                by_task[offer.task].append(offer)
        old = self.tasks
        self.tasks = {
            task: old[task]
            if task in old and old[task].offers == tuple(offers)
            else TaskCandidates(task, offers, self._loadable)
            for task, offers in by_task.items()
        }
        for worker in self.workers.values():
            for instance in list(worker.instances.values()):
                self._renew(instance)

    def _renew(self, instance: Instance) -> None:
        """Let an instance follow its variant into a new catalog, without a moment in which it does not serve."""
        offer = self._offers.get(instance.offer.name)
        if offer is None or offer.task not in self.tasks:
            del instance.worker.instances[instance.offer.name]
            return
        if offer is not instance.offer:
            instance.model = LatencyModel(offer.profile.latency, instance.model.max_batch)
            instance.offer = offer
        self._serve(instance)

    # -- what the workers say ------------------------------------------------------------------------------------------

    def hear(self, status: WorkerStatus, now: float) -> None:
        """Take a worker's status."""
        worker = self.workers.get(status.worker)
        if worker is not None and status.epoch < worker.epoch:
            return
        if worker is not None and (status.leaving or status.epoch > worker.epoch):
            self._remove(worker)
            worker = None
        if status.leaving:
            return
        if worker is None:
            worker = self._add(status)
        _hear_worker(worker, status, now, now + self._believe_s)
        self._reconcile(worker, status)
        for said in status.instances:
            instance = worker.instances.get(said.variant)
            if instance is not None:
                _hear_instance(instance, said, now)
        worker.busy = sum(instance.was_busy for instance in worker.instances.values())

    def expire(self, now: float) -> None:
        """Drop the workers that have not spoken for too long."""
        for worker in [worker for worker in self.workers.values() if worker.gone_at <= now]:
            self._remove(worker)

    def _add(self, status: WorkerStatus) -> Worker:
        slots = max(status.slots, 1)
        worker = Worker(status.worker, status.hardware, status.epoch, slots, status.price_per_hour / slots)
        worker.hop_s = self.hop_s
        worker.memory_total = status.memory_total
        self.workers[worker.name] = worker
        self._survey(worker.hardware)
        return worker

    def _remove(self, worker: Worker) -> None:
        del self.workers[worker.name]
        for instance in worker.instances.values():
            self._unserve(instance)
        self._survey(worker.hardware)

    def _survey(self, hardware: str) -> None:
        """Work out anew what workers of `hardware` cost and hold.

        The dearest sets the price, so that no replica costs more than was promised; the price stays when the last
        worker leaves, because it is likely to come back.
        """
        workers = [worker for worker in self.workers.values() if worker.hardware == hardware]
        largest = max((worker.memory_total for worker in workers), default=-1)
        if largest != self._loadable.get(hardware, -1):
            self._loadable[hardware] = largest
            for view in self.tasks.values():
                view.forget()
        price = max((worker.slot_price for worker in workers), default=self._prices.get(hardware))
        if price is not None and price != self._prices.get(hardware):
            self._prices[hardware] = price
            self._offers = {
                name: self._offer(offer, offer.variant, offer.profile) for name, offer in self._offers.items()
            }
            self._arrange(list(self.tasks))

    def _reconcile(self, worker: Worker, status: WorkerStatus) -> None:
        """Make the worker's instances those that its status says take queries."""
        serving = {said.variant: said for said in status.instances if said.state in SERVING and said.partitions}
        for variant in [name for name in worker.instances if name not in serving]:
            self._unserve(worker.instances.pop(variant))
        for variant, said in serving.items():
            present = worker.instances.get(variant)
            offer = self._offers.get(variant)
            if offer is None or offer.task not in self.tasks or (present is not None and _is_as_said(present, said)):
                continue
            if present is not None:
                self._unserve(present)
            partitions = tuple(self._partition(offer, owned.partition) for owned in said.partitions)
            model = LatencyModel(offer.profile.latency, said.max_batch)
            worker.instances[variant] = instance = Instance(offer, worker, partitions, model)
            self._serve(instance)

    def _partition(self, offer: PricedVariant, number: int) -> Partition:
        known = self.partitions(offer)
        known += map(Partition, range(len(known), number + 1))  # a worker may know of a new one first
        return known[number]

    def _serve(self, instance: Instance) -> None:
        view = self.tasks[instance.offer.task]
        replicas = view.serving.setdefault(instance.offer.name, [])
        if instance not in replicas:
            replicas.append(instance)
            self.newly_served.append(instance.offer)
            view.forget()

    def _unserve(self, instance: Instance) -> None:
        view = self.tasks.get(instance.offer.task)
        replicas = view.serving.get(instance.offer.name) if view is not None else None
        if view is None or replicas is None or instance not in replicas:
            return
        replicas.remove(instance)
        if not replicas:
            del view.serving[instance.offer.name]
            view.served.add(instance.offer.name)
        view.forget()

    # -- what this selector sends --------------------------------------------------------------------------------------

    def sent(self, instance: Instance | None, partition: Partition, inputs: int, offline: bool, now: float) -> None:
        """A query of `inputs` inputs is on its way to `partition`, for `instance` if one serves it."""
        partition.unacked += 1
        partition.mean_inputs += _SMOOTHING * (inputs - partition.mean_inputs)
        if instance is None:
            return
        instance.turn += 1
        worker = instance.worker
        worker.sends += 1
        if offline:
            instance.offline_inputs += inputs
            return
        instance.level = instance.waiting(now) + inputs
        instance.level_at = now
        worker.backlog_s = worker.wait_s(now) * worker.slots + inputs * instance.model.input_s() * instance.slowdown
        worker.backlog_at = now

    def acknowledged(
        self, instance: Instance | None, partition: Partition, offset: int, offline: bool, now: float
    ) -> None:
        """The broker has a query at `offset`; a gap before it was filled by other selectors."""
        partition.unacked -= 1
        partition.acked_at = now
        others = offset - partition.end
        if offset >= partition.end:
            if partition.position < 0:
                partition.position = offset
            elif instance is not None and others > 0 and partition.end >= 0:
                instance.level += others * partition.mean_inputs
            partition.end = offset + 1
        if offline:
            partition.offline.append(offset)

    def failed(self, partition: Partition) -> None:
        """The broker did not take a query."""
        partition.unacked -= 1


def _hear_worker(worker: Worker, status: WorkerStatus, now: float, gone_at: float) -> None:
    one_way_s = min(max(now - status.at_ms / 1000, 0.0), _MAX_HOP_S / 2)
    worker.hop_s += _SMOOTHING * (2 * one_way_s - worker.hop_s)
    elapsed_s = now - worker.heard_at
    if elapsed_s > 0:
        worker.sends_per_s += min(elapsed_s, 1.0) * (worker.sends / elapsed_s - worker.sends_per_s)
        worker.sends = 0
    worker.heard_at, worker.gone_at = now, gone_at
    worker.backlog_s, worker.backlog_at = status.backlog_s, now


def _hear_instance(instance: Instance, said: InstanceStatus, now: float) -> None:
    unread_inputs = 0.0
    for partition, owned in zip(instance.partitions, said.partitions, strict=True):
        is_idle = said.queued == 0 and owned.end <= owned.position and partition.unacked == 0
        if is_idle and now - partition.acked_at > _QUIET_S:
            partition.end = owned.position
        partition.position = owned.position
        partition.end = max(partition.end, owned.end, owned.position)
        while partition.offline and partition.offline[0] < owned.position:
            partition.offline.popleft()
        unread_inputs += partition.unread() * partition.mean_inputs
    instance.healthy = said.state is not InstanceState.OVERLOADED
    instance.calm = said.state is InstanceState.ACTIVE
    instance.slowdown = max(said.slowdown, 1.0)
    instance.level = max(said.queued_inputs - said.queued_offline_inputs, 0) + unread_inputs
    instance.level_at = now
    instance.offline_inputs = said.queued_offline_inputs + sum(
        len(partition.offline) * partition.mean_inputs for partition in instance.partitions
    )
    instance.was_busy = instance.level > 0
    instance.rate = _drain_rate(instance, said)


def _drain_rate(instance: Instance, said: InstanceStatus) -> float:
    """Inputs a second: as lately measured, and no less than one at a time; slots are shared when all are taken."""
    alone = 1.0 / max(instance.model.batch_s(1) * instance.slowdown, 1e-6)
    recent = said.batch_size / said.batch_s if said.batch_s > 0 else 0.0
    worker = instance.worker
    share = min(1.0, worker.slots / worker.busy) if worker.busy else 1.0
    return max(alone, recent) * share


def _is_as_said(instance: Instance, said: InstanceStatus) -> bool:
    return instance.model.max_batch == said.max_batch and [p.number for p in instance.partitions] == [
        owned.partition for owned in said.partitions
    ]

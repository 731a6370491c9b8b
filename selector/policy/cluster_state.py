"""The selector's view of the cluster: the catalog, statuses of workers, and its own sends since then.

Only this file changes the entities. All input is pushed in (catalog, statuses, sends, acknowledgements, time); it
requests nothing, so tests can simulate any history. Rules:

* A worker counts as alive for `status_ttl_s` after its status, or for three times its announced status interval, which
  is longer on idle workers. A status of an older epoch is void.
* The end of a partition is the highest seen in acknowledgements and statuses. It decreases only if its instance holds
  nothing, has read everything it sees and was sent nothing for a while: then the topic was recreated.
* Cached classes of a task are dropped when its variants, the loaded ones among them, or the loadable ones change.
  Replicas and their health change often; each update moves a replica to its place in `selector.policy.replicas`.
* The cost of a status, a send or an acknowledgement does not depend on the number of workers or replicas. Of a status
  only the instances count that have changed or have work: most of a worker's instances are idle at any time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final

from process.security.access import STRANGERS
from schemas.access import Users
from schemas.defaults import HOP_S
from schemas.hardware import CorePrice
from schemas.query import Query
from schemas.rows.catalog import ACCURACY, Profile, Variant
from schemas.status import SERVING, InstanceStatus, PartitionStatus, WorkerStatus
from schemas.versions import Versions
from selector.policy.candidates import NO_ROOM, TaskCandidates, WorkerSizes
from selector.policy.entities import Instance, Worker
from selector.policy.failed_loads import FailedLoads
from selector.policy.learned_lengths import LearnedLengths
from selector.policy.partition import Partition
from selector.policy.replicas import WHOLE_TASK, Replicas, TaskShare
from selector.policy.variants import PricedVariant
from selector.policy.worker_kind import WorkerKind

STATUS_TTL_S: Final = 1.0
HOUSEKEEPING_INTERVAL_S: Final = 0.25
"""Seconds between two checks for silent workers (`ClusterState.expire`)."""
_MISSED_STATUSES: Final = 3


class ClusterState:
    """Tasks, workers and partitions of a cluster as known now.

    Args:
        status_ttl_s: seconds for which a worker's status is valid.
        hop_s: assumed hop of a worker until its statuses have shown it.
    """

    def __init__(self, status_ttl_s: float = STATUS_TTL_S, hop_s: float = HOP_S) -> None:
        self.hop_s = hop_s
        self.tasks: dict[str, TaskCandidates] = {}
        self.workers: dict[str, Worker] = {}
        self.newly_served: list[PricedVariant] = []
        """Variants that gained an instance since the owner of this state last cleared the list."""
        self.least_hop_s = 0.0
        """Hop to the nearest worker in seconds, at most the assumed one; 0 without workers."""
        self.expires_at = inf
        """Time until which no worker's last status becomes invalid."""
        self.lengths = LearnedLengths()
        """Lengths of generative answers."""
        self._status_ttl_s = status_ttl_s
        self._variants: dict[str, PricedVariant] = {}
        self._partitions: dict[str, list[Partition]] = {}
        self._prices = dict[str, CorePrice]()
        self._kinds: defaultdict[str, Counter[WorkerKind]] = defaultdict(Counter)
        """Number of workers by hardware and kind (size and price of a core); there are few kinds."""
        self._loadable: dict[str, WorkerSizes] = {}
        self._failed = FailedLoads()
        self._versions = Versions()
        self._users: Users = {}
        self._shares: Mapping[str, TaskShare] = {}

    # -- what is registered --------------------------------------------------------------------------------------------

    def register(
        self,
        tasks: Iterable[str],
        rows: Iterable[Variant],
        profiles: Mapping[str, Profile],
        measures: Mapping[str, str] | None = None,
        versions: Versions | None = None,
        users: Users | None = None,
    ) -> list[PricedVariant]:
        """Apply a new catalog; tasks with unchanged variants keep their cached classes.

        `measures` are the measures of accuracy by task, if not the share of correct answers; `versions` the rollouts of
        models; `users` the tenants that may use names that are not public.

        Returns the variants whose topics have more partitions than before.
        """
        known, self._variants = self._variants, {}
        changed: list[PricedVariant] = []
        for row in rows:
            variant, profile = known.get(row.name), profiles.get(row.name)
            if profile is None:
                continue
            if variant is None or variant.row is not row or variant.profile is not profile:
                changed.append(variant := self._priced(variant, row, profile))
            self._variants[row.name] = variant
        for gone in known.keys() - self._variants.keys():
            for topic in known[gone].topics:
                self._partitions.pop(topic, None)
        self._versions = versions or self._versions
        self._users = self._users if users is None else users
        self._group_by_task({task: (measures or {}).get(task, ACCURACY) for task in tasks})
        self.lengths.keep(self.tasks, self._variants)
        return [v for v in changed if v.name in known and v.partitions > known[v.name].partitions]

    def use_shares(self, shares: Mapping[str, TaskShare]) -> None:
        """Set this selector's shares of tasks, by task; a task without one is read by no other selector."""
        shares = {task: share for task, share in shares.items() if not share.is_whole}
        if shares != self._shares:
            self._shares = shares
            for name, task in self.tasks.items():
                for replicas in task.serving.values():
                    replicas.use_share(shares.get(name, WHOLE_TASK))

    def seen_in(self, query: Query) -> TaskCandidates | None:
        """Return the part of a query's task that its tenant may use; None if there is none."""
        task = self.tasks.get(query.task)
        return task if task is None or task.tenants is None else task.seen_by(query.tenant)

    def tenant_class_of(self, query: Query) -> str | None:
        """Return the class of tenants with the same permissions in the query's task as its tenant."""
        task = self.tasks.get(query.task)
        return STRANGERS if task is None or task.tenants is None else task.tenants.of(query.tenant)

    def partitions(self, variant: PricedVariant) -> list[Partition]:
        """Return the known partitions of the variant's online topic, by number."""
        return self._known_partitions(variant, variant.partitions, offline=False)

    def _priced(self, old: PricedVariant | None, row: Variant, profile: Profile) -> PricedVariant:
        if old is not None and old.row == row and old.profile == profile:
            return old
        return PricedVariant(row, profile, self._prices.get(row.hardware))

    def _group_by_task(self, tasks: Mapping[str, str]) -> None:
        by_task: dict[str, list[PricedVariant]] = {task: [] for task in tasks}
        for variant in self._variants.values():
            if variant.task in by_task:
                by_task[variant.task].append(variant)
        known = self.tasks
        self.tasks = {task: self._of_task(task, variants, tasks[task]) for task, variants in by_task.items()}
        for worker in self.workers.values():
            for instance in list(worker.instances.values()):
                task = instance.variant.task
                if task not in self.tasks or self.tasks[task] is not known.get(task):
                    self._update_instance(instance)

    def _of_task(self, task: str, variants: list[PricedVariant], measure: str) -> TaskCandidates:
        """Return the task with these variants; the same object as before if nothing has changed."""
        architectures = {v.architecture for v in variants}
        old, versions = self.tasks.get(task), self._versions.of_task(task, architectures)
        named = {task, *architectures, *(rollout.model for rollout in versions.rollouts.get(task, ()))}
        users = {name: self._users[name] for name in named & self._users.keys()}
        if old is not None and (old.variants, old.versions, old.users) == (tuple(variants), versions, users):
            return old
        return TaskCandidates(task, variants, self._loadable, self._failed.reasons, measure, versions, users)

    def _update_instance(self, instance: Instance) -> None:
        """Move an instance to its variant in a new catalog, without an interruption of its service."""
        variant = self._variants.get(instance.variant.name)
        if variant is None or variant.task not in self.tasks:
            del instance.worker.instances[instance.variant.name]
            return
        if variant is not instance.variant:
            instance.use_model(variant.model_of(instance.model.max_batch, instance.model.correction))
            instance.use_variant(variant)
            instance.reported = None
        self._put_replica(instance, instance.worker.status_at)

    # -- what the workers say ------------------------------------------------------------------------------------------

    def apply_status(self, status: WorkerStatus, now: float, one_way_s: float | None = None) -> None:
        """Update a worker from a status received at `now`; `one_way_s` is the status's delay, None if unknown."""
        worker = self.workers.get(status.worker)
        if worker is not None and status.epoch < worker.epoch:
            return
        if worker is not None and (status.leaving or status.epoch > worker.epoch):
            self._remove_worker(worker)
            worker = None
        if status.leaving:
            return
        if worker is None:
            worker = self._add_worker(status)
        if one_way_s is not None:
            worker.measure_hop(one_way_s)
        news = worker.news(status.instances)
        self._reconcile(worker, status, news)
        self._note_failures(worker.name, news)
        for one in news:
            if one.answer_lengths and (variant := self._variants.get(one.variant)) is not None:
                self.lengths.take(variant, worker.name, one)
        ttl_s = max(self._status_ttl_s, _MISSED_STATUSES * status.interval_ms / 1000)
        for instance in worker.take_status(status, news, now, ttl_s):
            self._put_replica(instance, now)
        self.expires_at = min(self.expires_at, worker.expires_at)

    def expire(self, now: float) -> None:
        """Remove the workers whose last status is no longer valid at `now`."""
        for worker in [worker for worker in self.workers.values() if worker.expires_at <= now]:
            self._remove_worker(worker)
        self.least_hop_s = min((min(worker.hop_s, self.hop_s) for worker in self.workers.values()), default=0.0)
        self.expires_at = min((worker.expires_at for worker in self.workers.values()), default=inf)

    def _note_failures(self, worker: str, instances: Iterable[InstanceStatus]) -> None:
        for name in self._failed.update(worker, instances):
            if (variant := self._variants.get(name)) is not None and variant.task in self.tasks:
                self.tasks[variant.task].invalidate()

    def _add_worker(self, status: WorkerStatus) -> Worker:
        kind = WorkerKind.of(status)
        worker = Worker(status.worker, status.hardware, status.epoch, max(status.slots, 1), kind, self.hop_s)
        self.least_hop_s = self.least_hop_s or self.hop_s
        self.workers[worker.name] = worker
        self._kinds[worker.hardware][worker.kind] += 1
        self._update_hardware(worker.hardware)
        return worker

    def _remove_worker(self, worker: Worker) -> None:
        del self.workers[worker.name]
        if not self.workers:
            self.least_hop_s = 0.0
        self._note_failures(worker.name, ())
        for instance in worker.instances.values():
            self._remove_replica(instance)
        kinds = self._kinds[worker.hardware]
        kinds[worker.kind] -= 1
        if not kinds[worker.kind]:
            del kinds[worker.kind]
        self._update_hardware(worker.hardware)

    def _update_hardware(self, hardware: str) -> None:
        """Update the price and the sizes of workers of `hardware`.

        The dearest worker sets the price, so that no replica costs more than promised. The price stays when the last
        worker leaves, because it is likely to return.
        """
        kinds = self._kinds.get(hardware, ())
        rooms = frozenset(kind.room for kind in kinds)
        if rooms != self._loadable.get(hardware, NO_ROOM):
            self._loadable[hardware] = rooms
            for task in self.tasks.values():
                task.invalidate()
        price = max((kind.core_price for kind in kinds), default=self._prices.get(hardware))
        if price is not None and price != self._prices.get(hardware):
            self._prices[hardware] = price
            for variant in self._variants.values():
                if variant.hardware == hardware:
                    variant.use_price(price)
            for task in self.tasks.values():
                task.use_prices()

    def _reconcile(self, worker: Worker, status: WorkerStatus, news: Sequence[InstanceStatus]) -> None:
        """Add the instances that serve now, and remove the others; `news` are the changed ones of the status."""
        serving = {one.variant: one for one in news if one.state in SERVING and one.partitions}
        ended = {one.variant for one in news} - serving.keys()
        unchanged = len(status.instances) - len(news)
        if unchanged + len(serving.keys() & worker.instances.keys()) < len(worker.instances):
            ended |= worker.instances.keys() - {one.variant for one in status.instances}
        for name in ended & worker.instances.keys():
            self._remove_replica(worker.instances.pop(name))
        for name, reported in serving.items():
            present = worker.instances.get(name)
            variant = self._variants.get(name)
            if (
                variant is None
                or variant.task not in self.tasks
                or (present is not None and _matches(present, reported))
            ):
                continue
            if present is not None:
                self._remove_replica(present)
            online = self._owned(variant, reported.partitions, offline=False)
            offline = self._owned(variant, reported.offline_partitions, offline=True)
            worker.instances[name] = Instance(variant, worker, online, offline, variant.model_of(reported.max_batch))

    def _owned(
        self, variant: PricedVariant, reported: Iterable[PartitionStatus], *, offline: bool
    ) -> tuple[Partition, ...]:
        numbers = [owned.partition for owned in reported]
        known = self._known_partitions(variant, max(numbers, default=-1) + 1, offline=offline)
        return tuple(known[number] for number in numbers)

    def _known_partitions(self, variant: PricedVariant, least: int, *, offline: bool) -> list[Partition]:
        """Return the known partitions of one of the variant's topics, at least `least`, as a worker may know more."""
        known = self._partitions.setdefault(variant.offline_topic if offline else variant.topic, [])
        known += [Partition(number, offline) for number in range(len(known), least)]
        return known

    def _put_replica(self, instance: Instance, now: float) -> None:
        variant = instance.variant
        task = self.tasks[variant.task]
        replicas = task.serving.get(variant.name)
        if replicas is None:
            replicas = task.serving[variant.name] = Replicas(self._shares.get(variant.task, WHOLE_TASK))
        if instance not in replicas.model_of:
            self.newly_served.append(variant)
        if replicas.put(instance, now):
            task.invalidate()

    def _remove_replica(self, instance: Instance) -> None:
        replicas = self._replicas_of(instance.variant)
        if replicas is None or instance not in replicas.model_of:
            return
        task, name = self.tasks[instance.variant.task], instance.variant.name
        slower = replicas.remove(instance)
        self.lengths.end(instance.variant, instance.worker.name)
        if not replicas:
            del task.serving[name]
            task.formerly_served.add(name)
        if slower:
            task.invalidate()

    # -- what this selector sends --------------------------------------------------------------------------------------

    def sent(self, instance: Instance | None, partition: Partition, inputs: int, now: float, due_s: float) -> None:
        """Count an online query, due at `due_s`, that is sent to `partition`, and to `instance` if one serves it."""
        large = instance is not None and instance.model.is_large(inputs)
        partition.count_send(inputs, large)
        if instance is None:
            return
        worker = self._given_to(instance, now)
        worker.online_at = now
        if large:
            instance.large_inputs += inputs
        else:
            worker.take_work(instance, waiting := instance.waiting(now), inputs, now, due_s)
            instance.add(waiting, inputs, now)
        self._resort(instance, now)

    def sent_offline(self, instance: Instance, partition: Partition, inputs: int, now: float) -> None:
        """Count an offline query sent to `partition` of `instance`."""
        partition.count_send(inputs, large=False)
        self._given_to(instance, now)
        instance.offline_inputs += inputs
        self._resort(instance, now)

    def acknowledged(
        self, instance: Instance | None, partition: Partition, offset: int, now: float, large_inputs: int = 0,
        queries: int = 1,
    ) -> None:  # fmt: skip
        """Count `queries` as written from `offset` on; other selectors have filled any gap before them.

        `offset` is -1 if the broker only knows that it has them. `large_inputs` are the inputs of a single query if it
        was large when sent, else 0.
        """
        partition.count_ack(offset, large_inputs, queries)
        partition.acked_at = now
        others = offset - partition.end
        if offset >= 0 and offset + queries > partition.end:
            if partition.position < 0:
                partition.position = offset
            elif instance is not None and others > 0 and partition.end >= 0:
                instance.refresh_share(now)
                inputs = others * partition.mean_inputs
                if partition.offline:
                    instance.offline_inputs += inputs
                else:  # their deadlines are unknown, so nothing overtakes them
                    instance.worker.take_work(instance, instance.waiting(now), int(inputs + 0.5), now, due_s=now)
                    instance.level += inputs
                self._resort(instance, now)
            partition.end = offset + queries

    def failed(self, partition: Partition, large_inputs: int = 0) -> None:
        """Count a query as not written."""
        partition.count_ack(None, large_inputs)

    def _resort(self, instance: Instance, now: float) -> None:
        """Move an instance that was given work to its place among the replicas, if it is still one."""
        replicas = self._replicas_of(instance.variant)
        if replicas is not None:
            replicas.give_work(instance, now)

    def _replicas_of(self, variant: PricedVariant) -> Replicas | None:
        task = self.tasks.get(variant.task)
        return None if task is None else task.serving.get(variant.name)

    def _given_to(self, instance: Instance, now: float) -> Worker:
        instance.turn += 1
        instance.refresh_share(now)
        worker, replicas = instance.worker, self._replicas_of(instance.variant) if self._shares else None
        worker.sends.count(1.0 if replicas is None else replicas.senders)
        return worker


def _matches(instance: Instance, reported: InstanceStatus) -> bool:
    """Return true if an instance's partitions and its largest batch match the worker's status."""
    return instance.model.max_batch == reported.max_batch and all(
        [p.number for p in ours] == [owned.partition for owned in theirs]
        for ours, theirs in (
            (instance.partitions, reported.partitions),
            (instance.offline_partitions, reported.offline_partitions),
        )
    )

"""A variant on a simulated worker: it loads, takes partitions, queues queries, and answers them."""

from collections.abc import Collection, Sequence
from math import inf
from typing import Final, Protocol, TypeAlias

from runtimes.catalog import is_concurrent
from schemas.hardware import slots_taken
from schemas.status import InstanceState, InstanceStatus, PartitionStatus
from simulator.catalogue import CatalogueHardware
from simulator.cluster.links import WorkerLinks
from simulator.cluster.partition_log import PartitionLog
from simulator.cluster.query import Piece, SimulatedQuery
from simulator.cluster.variant import SimulatedVariant
from simulator.invariants import broken
from simulator.outcomes import QueryOutcome
from workers.handover import ASK_AGAIN_S, IN_USE_S, NOTICED_S
from workers.serving.instance_work import InstanceWork
from workers.slots.batch_queue import BatchQueue, Urgency
from workers.slots.footprint import footprint_in
from workers.slots.prefetch import prefetch_count
from workers.slots.schedule import SlotSchedule

_OFFLINE_READ: Final = 32
"""Most offline queries that are read at once."""


Part: TypeAlias = SimulatedQuery | Piece
"""A whole query, or a piece of a large one."""


class SimulatedBatch:
    """Parts that one slot computes at once (`workers.slots.schedule.ScheduledBatch`)."""

    __slots__ = ("began_s", "consecutive", "inputs", "instance", "limit_s", "parts", "predicted_s", "shared")

    def __init__(
        self, instance: "SimulatedInstance", parts: Sequence[Part], inputs: int, predicted_s: float, now: float
    ) -> None:
        self.instance = instance
        self.parts = parts
        self.inputs = inputs
        self.predicted_s = predicted_s
        self.began_s = now
        self.limit_s = inf
        self.shared = False
        self.consecutive = False


class InstanceHost(Protocol):
    """Worker of an instance."""

    name: str
    hardware: CatalogueHardware
    links: WorkerLinks
    schedule: SlotSchedule[SimulatedBatch]
    alive: bool

    def wake(self) -> None:
        """Begin waiting batches in the free slots."""
        ...

    def stirred(self) -> None:
        """Send the next status sooner, because there is a query."""
        ...

    def changed(self) -> None:
        """Send a status at once, because a state has changed."""
        ...

    def end_instance(self, instance: "SimulatedInstance") -> None:
        """Unload an instance that holds nothing."""
        ...


class SimulatedInstance:
    """One variant on one worker, from the row that wants it until it has ended."""

    def __init__(self, variant: SimulatedVariant, worker: InstanceHost, max_batch: int) -> None:
        self.variant = variant
        self.worker = worker
        self._events = worker.links.events
        self.is_serving = False
        """True from the end of its load to its end."""
        self.is_ending = False
        """True if its row is gone while it serves."""
        self.answered = self.inputs = self.late = self.expired = 0
        self.wanted: frozenset[int] | None = frozenset()
        """Partitions that its row wants; None if the row is gone."""
        self.held: dict[int, tuple[SimulatedQuery, PartitionLog]] = {}
        """Queries that were read and are not answered, with their partitions, by number."""
        self.online: dict[int, PartitionLog] = {}
        """Partitions of the online topic that it owns, by number."""
        self.offline: dict[int, PartitionLog] = {}
        row, hardware, schedule = variant.row, worker.hardware, worker.schedule
        taken = slots_taken(row.hardware, variant.profile.threads, hardware.threads)
        footprint = footprint_in(hardware.slots, taken, is_concurrent=is_concurrent(row.runtime))
        self.width, self.parallel, self.is_concurrent = footprint
        queue: BatchQueue[Part] = BatchQueue(variant.latency(max_batch), schedule.arrivals, schedule.turn)
        self.work: InstanceWork[int, Part] = InstanceWork(queue, footprint, self._events.now, lengths_vary=False)
        self._looks = False
        """True if a look at the offline topic is scheduled."""
        self._hidden: frozenset[int] = frozenset()
        """Partitions that the status leaves out although they are read, because no worker will take them."""
        self._hidden_until_s = 0.0
        self._read_s = -inf
        """Time of the last query that was read."""
        self._asks = False
        """True if another attempt to take partitions is scheduled."""
        self.computing = 0
        """Batches under way."""
        self._set_prefetch()

    # -- row and partitions --------------------------------------------------------------------------------------------

    def follow(self, wanted: Collection[int] | None, max_batch: int) -> None:
        """Follow the row: serve the `wanted` partitions, and end if it is gone (None)."""
        self.wanted = None if wanted is None else frozenset(wanted)
        if wanted is not None and max_batch != self.work.latency.max_batch:
            self.work.use_latency_model(self.variant.latency(max_batch), lengths_vary=False)
            self._set_prefetch()
        if self.is_serving:
            self._take_partitions()
            self._release_unwanted()

    def loaded(self) -> None:
        """Begin to serve."""
        self.is_serving = True
        self.worker.schedule.add_source(self)
        self._take_partitions()
        self._release_unwanted()

    def _take_partitions(self, _again: object = None) -> None:
        """Take the missing partitions that are free, and ask the owners of the others."""
        self._asks = False
        if self.wanted is None or not self.worker.alive or not self.is_serving:
            return
        missing = False
        for number in sorted(self.wanted - self.online.keys()):
            online, offline = self.variant.partition(number)
            if not online.ask(self, self._events.now):
                missing = True
                continue
            self._own(online, offline)
        if missing and not self._asks:
            self._asks = True
            self._events.after(ASK_AGAIN_S, self._take_partitions)

    def _own(self, online: PartitionLog, offline: PartitionLog) -> None:
        self.online[online.number], self.offline[online.number] = online, offline
        online.owner = offline.owner = self
        online.next_owner = None
        self.worker.changed()
        self.read(online)
        self.read_offline()

    def _release_unwanted(self) -> None:
        """Hand over the partitions that the row does not want, if another instance asks or none will."""
        kept = frozenset[int]() if self.wanted is None else self.wanted
        hides = self._hides_unclaimed(kept)
        for number in sorted(self.online.keys() - kept):
            log = self.online.get(number)  # none if the next owner of an earlier one has asked for this one, too
            if log is not None and (log.next_owner is not None or not (hides or self.variant.is_wanted(number))):
                self.hand_over(log)
        if self.wanted is None and not self.online:
            if not self.is_ending:
                self.is_ending = True
                self.worker.changed()
            if not self.held:
                self.worker.end_instance(self)

    def _hides_unclaimed(self, kept: Collection[int]) -> bool:
        """Return true if partitions that nobody takes must be read on until selectors know that they are not served."""
        now = self._events.now
        unclaimed = frozenset(
            number
            for number, log in self.online.items()
            if number not in kept and log.next_owner is None and not self.variant.is_wanted(number)
        )
        if unclaimed and self.wanted is None and not self._hidden and now - self._read_s < IN_USE_S:
            self._hidden, self._hidden_until_s = unclaimed, now + NOTICED_S
            self.worker.changed()
            self._events.at(self._hidden_until_s, self._end_hiding)
        return bool(unclaimed) and now < self._hidden_until_s

    def _end_hiding(self, _argument: object) -> None:
        if self.wanted is None:
            self._release_unwanted()
        else:  # the row has come back
            self._hidden = frozenset()
            self.worker.changed()

    def hand_over(self, log: PartitionLog) -> None:
        """Read no more of a partition; give it away once all that was read is answered."""
        offline = self.offline[log.number]
        log.closing = True
        if log.held or offline.held:
            return
        del self.online[log.number], self.offline[log.number]
        log.release()
        offline.owner = None
        self.worker.changed()
        if log.next_owner is not None:
            log.next_owner.retry()
        if self.wanted is None and not self.online:
            self._release_unwanted()

    def retry(self) -> None:
        """Try again to take missing partitions, because one has become free."""
        self._take_partitions()

    @property
    def worker_name(self) -> str:
        """Name of its worker."""
        return self.worker.name

    def wants(self, number: int) -> bool:
        """Return true if its row wants this partition."""
        return self.wanted is not None and number in self.wanted

    # -- input ---------------------------------------------------------------------------------------------------------

    def read(self, log: PartitionLog) -> None:
        """Read what has arrived in a partition: of an online one, up to the most that may be held."""
        if log.offline:
            self.read_offline()
            return
        if log.closing:
            return
        now, work = self._events.now, self.work
        while log.waiting and len(self.held) < self._prefetch:
            self._add(log, now)
        if work.queue.online_inputs or work.queue.large_inputs:
            self.worker.wake()

    def _add(self, log: PartitionLog, now: float) -> SimulatedQuery:
        """Take the next query of a partition into the queue."""
        query = log.take()
        self._read_s = now
        self.held[query.number] = query, log
        work, large = self.work, self.work.latency.is_large(query.inputs)
        work.arrived(query.number, query.inputs, large=large, offline=query.offline)
        if large:
            work.queue.add_large(query.query.tenant or "", self._pieces(query), now)
        else:
            work.queue.add(query)
        self.worker.stirred()
        return query

    def _pieces(self, query: SimulatedQuery) -> list[Piece]:
        size, left = self.work.latency.piece_inputs, query.inputs
        pieces: list[Piece] = []
        while left > 0:
            pieces.append(Piece(query, min(size, left)))
            left -= size
        query.parts_left = len(pieces)
        return pieces

    def read_offline(self, _due: object = None) -> None:
        """Read offline queries if the pace allows it, and schedule the next look."""
        self._looks = _due is None and self._looks
        waiting = [log for log in self.offline.values() if log.waiting]
        if not waiting or not self.is_serving or not self.worker.alive:
            return
        now, work = self._events.now, self.work
        online = self.worker.schedule.expects_online(now)
        room = work.offline_room(now, online=online)
        if not room:
            again_s = work.throttle.look_again_s(now)
            if again_s is not None and not self._looks:
                self._looks = True
                self._events.after(again_s, self.read_offline, True)
            return
        count = inputs = 0
        for log in waiting:
            while log.waiting and count < min(room, _OFFLINE_READ) and not self.online[log.number].closing:
                inputs += self._add(log, now).inputs
                count += 1
        if count:
            work.throttle.took(count, inputs, work.latency.input_s(), online=online, now_s=now)
            self.worker.wake()

    # -- computation: called by the slot schedule ----------------------------------------------------------------------

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent work; None if none waits."""
        return self.work.queue.urgency()

    def next_batch(self, slots: int, now_s: float) -> SimulatedBatch | None:
        """Take the next batch out of the queue, if `slots` batches may begin now."""
        taken = self.work.next_batch(slots, now_s)
        for part in taken.expired:
            query = part.query if isinstance(part, Piece) else part
            self.expired += 1
            self._end(query, QueryOutcome.EXPIRED)
        if not taken.batch:
            return None
        inputs = sum([part.inputs for part in taken.batch])
        return SimulatedBatch(self, taken.batch, inputs, self.work.predicted_s(taken.batch), now_s)

    def batch_s(self, batch: SimulatedBatch) -> float:
        """Draw the seconds of a batch that computes alone."""
        return self.variant.batch_s(batch.inputs)

    def computed(self, batch: SimulatedBatch, slot: int) -> None:
        """Answer the parts of a batch that has ended, and measure it."""
        now = self._events.now
        if isinstance(batch.parts[0], Piece):
            self.work.meter.interrupted(slot)
        else:
            left = self.work.queue.online_inputs > 0 or self.unread > 0
            self.work.computed(
                batch.parts, now - batch.began_s, now, slot=slot, consecutive=batch.consecutive, left=left
            )
        for part in batch.parts:
            query = part.query if isinstance(part, Piece) else part
            query.parts_left -= 1
            if not query.parts_left:
                self.answered += 1
                self.inputs += query.inputs
                self.late += now > query.deadline_s
                if isinstance(part, Piece):
                    self._measure_large(query, now)
                self._end(query, QueryOutcome.ANSWERED)

    def _measure_large(self, query: SimulatedQuery, now: float) -> None:
        inputs = max(self.work.backlog.large, query.inputs)
        self.work.meter.large_answered(now - query.sent_s, self.work.latency.query_s(inputs))

    def _end(self, query: SimulatedQuery, outcome: QueryOutcome) -> None:
        """Send the outcome of a query, and read the next ones in its place."""
        held = self.held.pop(query.number, None)
        if held is None:
            return
        _, log = held
        self.work.backlog.remove(query.number)
        self.worker.links.answer(query, outcome)
        if log.owner is not self:
            broken(6, f"{self.variant.name} on {self.worker.name} answers a query of a partition that it does not own")
        log.held -= 1
        self._after_answer(log)
        if self.wanted is None and not self.held:
            self._release_unwanted()

    def _after_answer(self, log: PartitionLog) -> None:
        online = self.online[log.number]
        if online.closing:
            self.hand_over(online)
        elif log.offline:
            self.read_offline()
        else:
            self._read_oldest()
            if any(offline.waiting for offline in self.offline.values()):
                self.read_offline()

    def _read_oldest(self) -> None:
        """Read what waits in all partitions, the oldest query first."""
        waiting = [log for log in self.online.values() if log.waiting]
        for log in sorted(waiting, key=lambda log: log.waiting[0].sent_s):
            self.read(log)

    # -- status --------------------------------------------------------------------------------------------------------

    @property
    def unread(self) -> int:
        """Online queries that have arrived and are not read."""
        return sum(len(log.waiting) for log in self.online.values())

    def status(self, now: float) -> InstanceStatus:
        """Return its status."""
        if not self.is_serving or self.is_ending:
            state = InstanceState.DRAINING if self.is_ending else InstanceState.LOADING
            return InstanceStatus(variant=self.variant.name, state=state, queued=len(self.held))
        status = self.work.status(
            self.variant.name,
            self,
            partitions=self._statuses(self.online),
            offline_partitions=self._statuses(self.offline),
            queued=len(self.held),
        )
        waiting, done_inputs = self.work.queue.waiting_online(), self.worker.schedule.done_inputs(self, now)
        return self.work.with_batches(status, waiting=waiting, done_inputs=done_inputs, now_s=now)

    def _statuses(self, logs: dict[int, PartitionLog]) -> tuple[PartitionStatus, ...]:
        """Return the statuses of partitions, by number, without partitions that are handed over."""
        return tuple(
            PartitionStatus(number, log.position, log.position + len(log.waiting))
            for number, log in sorted(logs.items())
            if number not in self._hidden and not self.online[number].closing
        )

    def update_health(self, now: float) -> None:
        """Update the state once per period."""
        if self.is_serving and not self.is_ending:
            self.work.update_health(now, self.unread)

    def _set_prefetch(self) -> None:
        settings = self.worker.links.settings
        self._prefetch = prefetch_count(self.parallel, self.work.latency, settings.prefetch_s, settings.prefetch_max)

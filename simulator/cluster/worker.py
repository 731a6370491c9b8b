"""A simulated worker: slots that compute batches, instances that load one at a time, and statuses."""

from collections import deque
from collections.abc import Callable, Collection
from math import exp, inf
from typing import Final

from schemas.status import InstanceState, WorkerStatus
from simulator.catalogue import CatalogueHardware
from simulator.cluster.instance import InstanceHost, SimulatedBatch, SimulatedInstance
from simulator.cluster.links import WorkerLinks
from simulator.cluster.variant import SimulatedVariant
from simulator.invariants import broken
from workers.slots.batch_queue import slot_backlogs_s
from workers.slots.schedule import SlotSchedule

_CPU_MEMORY_S: Final = 0.5
"""Time constant of the measured CPU use, as in `process.cpus`."""
InstanceMaker = Callable[[SimulatedVariant, InstanceHost, int], SimulatedInstance]
"""Makes an instance of a variant on a worker, with a largest batch: a baseline's may batch differently."""


class SimulatedWorker:
    """One process of a worker, from its registration until it ends."""

    def __init__(self, name: str, hardware: CatalogueHardware, epoch: int, links: WorkerLinks) -> None:
        self.name = name
        self.hardware = hardware
        self.epoch = epoch
        self.links = links
        self._events = links.events
        self._machine = links.machine
        self.alive = True
        self.leaving = False
        self.slow_factor = 1.0
        """Ratio of its batch times to those of an undisturbed worker."""
        self.schedule: SlotSchedule[SimulatedBatch] = SlotSchedule(hardware.slots)
        self.instances: dict[str, SimulatedInstance] = {}
        self.busy = 0
        """Slots that compute now."""
        self._waking = False
        """True while batches begin: an instance that drops expired queries then reads others, and wakes its worker."""
        self._loads: deque[SimulatedInstance] = deque()
        self._loading = False
        self._status_at = inf
        """Time of the next status."""
        self._status_id = 0
        self._was_idle = True
        self._cpu_busy = 0.0
        self._measured_s = (self._events.now, 0.0)
        """Time of the last status, and the slot seconds computed until then."""
        self.changed()

    @property
    def memory_used(self) -> int:
        """Bytes of the instances that are loaded or loading."""
        return sum(instance.variant.profile.memory_bytes for instance in self.instances.values())

    # -- instances -----------------------------------------------------------------------------------------------------

    def begin_instance(
        self, variant: SimulatedVariant, max_batch: int, make: InstanceMaker = SimulatedInstance
    ) -> SimulatedInstance:
        """Begin to load a variant, after the loads that were begun before."""
        instance = self.instances[variant.name] = make(variant, self, max_batch)
        self._loads.append(instance)
        self._check_memory()
        self.changed()
        self._load_next()
        return instance

    def _check_memory(self) -> None:
        used = sum(one.variant.profile.memory_bytes for one in self.instances.values() if one.wanted is not None)
        if used > self.hardware.memory_bytes:
            broken(8, f"instances of {self.name} take {used} of {self.hardware.memory_bytes} bytes")

    def host(
        self,
        variant: SimulatedVariant,
        max_batch: int,
        partitions: Collection[int],
        make: InstanceMaker = SimulatedInstance,
    ) -> SimulatedInstance:
        """Serve a variant that is loaded already."""
        instance = self.instances[variant.name] = make(variant, self, max_batch)
        instance.follow(partitions, max_batch)
        instance.loaded()
        return instance

    def _load_next(self) -> None:
        if self._loads and not self._loading:
            self._loading = True
            instance = self._loads.popleft()
            self._events.after(instance.variant.load_s(), self._loaded, instance)

    def _loaded(self, instance: SimulatedInstance) -> None:
        self._loading = False
        if not self.alive:
            return
        if instance.wanted is None:
            self.end_instance(instance)
        else:
            instance.loaded()
            self.links.report_state(instance.variant.name, self.name, InstanceState.ACTIVE)
            self.changed()
        self._load_next()

    def end_instance(self, instance: SimulatedInstance) -> None:
        """Unload an instance that holds nothing."""
        if self.instances.get(instance.variant.name) is not instance:
            return
        del self.instances[instance.variant.name]
        if instance in self._loads:
            self._loads.remove(instance)
        if instance.is_serving:
            self.schedule.remove_source(instance)
        instance.is_serving = False
        self.links.report_state(instance.variant.name, self.name, InstanceState.INACTIVE)
        self.changed()

    # -- computation ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Begin waiting batches in the free slots."""
        if not self.alive or self._waking:
            return
        self._waking = True
        schedule, now = self.schedule, self._events.now
        while schedule.has_free and (begun := schedule.begin(now)) is not None:
            self._begin(*begun)
        self._waking = False

    def _begin(self, slot: int, batch: SimulatedBatch) -> None:
        settings, others = self.links.settings, self.busy
        self.busy += batch.instance.width
        batch.instance.computing += 1
        self._check_batch(batch)
        seconds = batch.instance.batch_s(batch) * self.slow_factor
        seconds = seconds * (1.0 + settings.interference * others) + settings.overhead_s
        if self._machine is not None:
            seconds *= self._machine.slowdown()
            self._machine.begin(batch.instance.width * self.hardware.threads)
        self._events.after(seconds, self._computed, (slot, batch))

    def _computed(self, ended: tuple[int, SimulatedBatch]) -> None:
        if not self.alive:
            return
        slot, batch = ended
        self.busy -= batch.instance.width
        if self._machine is not None:
            self._machine.end(batch.instance.width * self.hardware.threads)
        batch.instance.computing -= 1
        self.schedule.end(slot, self._events.now)
        batch.instance.computed(batch, slot)
        self.wake()

    def _check_batch(self, batch: SimulatedBatch) -> None:
        instance, name = batch.instance, batch.instance.variant.name
        if self.busy > self.hardware.slots:
            broken(3, f"{self.busy} slots of {self.name} compute, which has {self.hardware.slots}")
        if instance.computing > instance.parallel:
            broken(4, f"{name} on {self.name} computes {instance.computing} batches at once")
        if batch.inputs > instance.work.latency.max_batch and len(batch.parts) > 1:
            broken(5, f"a batch of {name} has {batch.inputs} inputs")

    # -- statuses ------------------------------------------------------------------------------------------------------

    def stirred(self) -> None:
        """Send the next status within the interval of a busy worker, because there is a query."""
        if self._was_idle:
            self._was_idle = False
            self._schedule_status(self._events.now + self.links.settings.status_interval_s)

    def changed(self) -> None:
        """Send a status at once, because a state has changed."""
        self._schedule_status(self._events.now)

    def _schedule_status(self, at_s: float) -> None:
        if at_s < self._status_at:
            self._status_at = at_s
            self._status_id += 1
            self._events.at(at_s, self._publish, self._status_id)

    def _publish(self, status_id: int) -> None:
        if status_id != self._status_id or not (self.alive or self.leaving):
            return
        now, settings = self._events.now, self.links.settings
        for instance in self.instances.values():
            instance.update_health(now)
        status = self._status(now, settings.status_idle_interval_s, settings.status_interval_s)
        self._status_at = inf
        if self.alive:
            self._schedule_status(now + status.interval_ms / 1e3)
        self.links.publish(status)

    def _status(self, now: float, idle_interval_s: float, busy_interval_s: float) -> WorkerStatus:
        instances = tuple(instance.status(now) for instance in self.instances.values())
        idle = self._was_idle = not any(instance.queued for instance in instances)
        hardware = self.hardware
        return WorkerStatus(
            worker=self.name,
            hardware=hardware.name,
            epoch=self.epoch,
            at_ms=now * 1e3,
            slots=hardware.slots,
            price_per_hour=hardware.price_per_hour,
            threads=hardware.threads,
            slot_backlogs_s=self.slot_backlogs_s(now),
            memory_used=self.memory_used,
            memory_total=hardware.memory_bytes,
            busy_s=self.schedule.busy_s(now),
            instances=instances,
            leaving=self.leaving,
            interval_ms=1e3 * (idle_interval_s if idle else busy_interval_s),
            cpus=float(hardware.slots * hardware.threads) if self._machine is None else self._machine.cpus,
            cpu_busy=self._measure_cpu(now),
        )

    def slot_backlogs_s(self, now: float) -> tuple[float, ...]:
        """Return the seconds until each slot has computed what is under way and what waits."""
        waiting = [batches for one in self.instances.values() for batches in one.work.waiting_batches()]
        return slot_backlogs_s(self.schedule.left_s(now), waiting)

    def _measure_cpu(self, now: float) -> float:
        """Return the smoothed share of its machine's CPU time in use."""
        if self._machine is not None:
            return round(self._machine.used(), 3)
        busy_s, (since_s, before_s) = self.schedule.busy_s(now), self._measured_s
        passed_s = now - since_s
        if passed_s > 0.0:
            share = min((busy_s - before_s) / (passed_s * self.hardware.slots), 1.0)
            self._cpu_busy += (1.0 - exp(-passed_s / _CPU_MEMORY_S)) * (share - self._cpu_busy)
            self._measured_s = now, busy_s
        return round(self._cpu_busy, 3)

    # -- end -----------------------------------------------------------------------------------------------------------

    def die(self, lease_ttl_s: float) -> None:
        """End at once: what it held is read again by the next owners, once its leases have ended."""
        self.alive = False
        if self._machine is not None:
            self._machine.end(self.busy * self.hardware.threads)
        for instance in self.instances.values():
            for log in (*instance.online.values(), *instance.offline.values()):
                log.put_back([query for query, held_in in instance.held.values() if held_in is log])
                log.release()
                log.free_s, log.died = self._events.now + lease_ttl_s, self.name
        self.instances.clear()

    def stop(self) -> None:
        """End after its instances have ended; announce it."""
        self.alive, self.leaving = False, True
        self.changed()

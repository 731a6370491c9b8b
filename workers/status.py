"""Status reporter: publishes the worker's status when a state changes, and each 100 ms while queries come and go.

Otherwise it publishes just often enough that the worker counts as alive: without queries, and while the queries that it
holds are answers being generated, which selectors count as whole until they end.

It never waits for the record's acknowledgement: a late status has no value, and the next one is due soon.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from schemas import topics
from schemas.status import InstanceStatus, WorkerStatus
from workers.context import WorkerContext
from workers.instance_controller import InstanceController
from workers.serving.metrics import count_states
from workers.slots.batch_queue import slot_backlogs_s

_encode = msgspec.json.Encoder().encode
_MEASURE_INTERVAL_S: Final = 1.0


class StatusReporter:
    """Publisher of the status of one worker and its instances."""

    def __init__(
        self, context: WorkerContext, epoch: int, controllers: Callable[[], Iterable[InstanceController]]
    ) -> None:
        self._context = context
        self._epoch = epoch
        self._controllers = controllers
        self._memory_used = 0
        self._measured_at = 0.0
        self._instances: tuple[InstanceStatus, ...] = ()
        """Instances in the last status."""
        self._leaving = False

    async def run(self) -> None:
        """Publish until cancelled."""
        settings, trigger = self._context.settings, self._context.trigger
        while True:
            quiet = await self.publish()
            await trigger.wait(settings.status_interval_s, settings.status_idle_interval_s, quiet=quiet)

    def announce_leaving(self) -> None:
        """Report from now on that the worker is leaving."""
        self._leaving = True
        self._context.trigger.change()

    async def publish(self) -> bool:
        """Publish the status once. Returns true if the next one may wait for a change."""
        self._context.trigger.begin()
        now_s = time.monotonic()
        answer_times: dict[str, dict[int, int]] = {}
        if self._leaving or now_s - self._measured_at >= _MEASURE_INTERVAL_S:
            self._measured_at, self._memory_used = now_s, self._context.memory.used
            answer_times = self._context.answers.take_times()
        controllers = list(self._controllers())
        for controller in controllers:
            controller.update_health(now_s)
        instances = tuple(controller.status() for controller in controllers)
        waiting = (batches for controller in controllers for batches in controller.waiting_batches())
        backlogs_s = slot_backlogs_s(self._context.executor.left_s(), waiting)
        quiet = is_quiet(instances, self._instances, backlogs_s)
        self._instances = instances
        status = self._status(instances, backlogs_s, answer_times, quiet=quiet)
        count_states([instance.state for instance in status.instances])
        # A lost status is not reported: the next one follows.
        await self._context.producer.post(
            topics.STATUS, _encode(status), lambda _outcome: None, key=status.worker.encode()
        )
        return quiet

    def _status(
        self,
        instances: tuple[InstanceStatus, ...],
        backlogs_s: tuple[float, ...],
        answer_times: dict[str, dict[int, int]],
        *,
        quiet: bool,
    ) -> WorkerStatus:
        context, settings = self._context, self._context.settings
        interval_s = settings.status_idle_interval_s if quiet else settings.status_interval_s
        return WorkerStatus(
            worker=settings.worker,
            hardware=settings.hardware.value,
            epoch=self._epoch,
            at_ms=context.producer.clock.now_ms(),
            slots=settings.slots,
            price_per_hour=settings.price,
            threads=settings.threads,
            slot_backlogs_s=backlogs_s,
            memory_used=self._memory_used,
            memory_total=settings.memory_bytes,
            busy_s=context.executor.busy_s + context.generating.seconds(time.monotonic()),
            instances=instances,
            answers=context.answers.take(),
            answer_times=answer_times,
            leaving=self._leaving,
            interval_ms=1e3 * interval_s,
            cpus=context.executor.cpu.cpus,
            cpu_busy=round(context.executor.cpu.busy(), 3),
        )


def is_quiet(
    instances: tuple[InstanceStatus, ...], before: tuple[InstanceStatus, ...], backlogs_s: tuple[float, ...]
) -> bool:
    """Return true if no instance holds a query, or no slot computes and nothing has changed since the last status."""
    return not any(instance.queued for instance in instances) or (instances == before and not any(backlogs_s))

"""Publishes what the worker does: each 100 ms, and at once when an instance changes its state.

The record is never waited for: a late status is worth nothing, and the next one is due anyway.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import psutil

from broker.producer import Ack, Producer
from schemas import topics
from schemas.status import WorkerStatus
from workers.device import Device
from workers.hosting import Hosting
from workers.metrics import count_states
from workers.settings import WorkerSettings

_encode = msgspec.json.Encoder().encode
_MEMORY_EVERY_S: Final = 1.0


class StatusReporter:
    """Reports on one worker's hostings."""

    def __init__(
        self, settings: WorkerSettings, epoch: int, producer: Producer, device: Device,
        hostings: Callable[[], Iterable[Hosting]], changed: asyncio.Event,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._epoch = epoch
        self._producer = producer
        self._device = device
        self._hostings = hostings
        self._changed = changed
        self._process = psutil.Process()
        self._memory_used = 0
        self._memory_at = 0.0
        self._leaving = False

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self.publish()
            try:
                async with asyncio.timeout(self._settings.status_every_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    def leave(self) -> None:
        """Say from now on that the worker is going."""
        self._leaving = True
        self._changed.set()

    async def publish(self) -> None:
        """Send one record."""
        now_s = time.monotonic()
        if now_s - self._memory_at >= _MEMORY_EVERY_S:
            self._memory_at, self._memory_used = now_s, self._process.memory_info().rss
        hostings = list(self._hostings())
        for hosting in hostings:
            hosting.observe(now_s)
        status = self._status(hostings)
        count_states([instance.state for instance in status.instances])
        sent = await self._producer.send(topics.STATUS, _encode(status), key=self._settings.worker.encode())
        sent.add_done_callback(_forget)

    def _status(self, hostings: list[Hosting]) -> WorkerStatus:
        settings = self._settings
        return WorkerStatus(
            worker=settings.worker,
            hardware=settings.hardware.value,
            epoch=self._epoch,
            at_ms=time.time() * 1e3,
            slots=settings.slots,
            price_per_hour=settings.price,
            backlog_s=sum(hosting.backlog_s for hosting in hostings),
            memory_used=self._memory_used,
            memory_total=settings.memory_bytes,
            busy_s=self._device.busy_s,
            instances=tuple(hosting.status() for hosting in hostings),
            leaving=self._leaving,
        )


def _forget(sent: "asyncio.Future[Ack]") -> None:
    if not sent.cancelled():
        sent.exception()  # looked at, so that asyncio does not report it: the next status is on its way

"""Delay of the event loop, by cause: how long a query waits before the loop turns to it.

A timer at random times samples it. Each delay counts for its main cause: the garbage collector, callbacks of this loop
that ran before, or the wait for a core. The wait for a core includes that for another thread of the process, which
holds the interpreter's lock.
"""

import asyncio
import gc
import random
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from prometheus_client import Histogram

_INTERVAL_S: Final = 0.1
"""Mean time between two samples; each costs some 15 us of CPU time."""

LOOP_DELAY: Final = Histogram(
    "infaas_event_loop_delay_seconds",
    "Delay of the event loop, sampled at random times, by main cause",
    ["cause"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)


class DelayCause(StrEnum):
    """Main cause of a delay."""

    COLLECTOR = "collector"
    CALLBACKS = "callbacks"
    CORE = "core"


def main_cause(delay_s: float, collecting_s: float, running_s: float) -> DelayCause:
    """Return the main cause of a delay.

    Args:
        delay_s: the delay.
        collecting_s: its part in which the garbage collector ran.
        running_s: CPU time of the loop's thread since the last sample.
    """
    if collecting_s > delay_s / 2:
        return DelayCause.COLLECTOR
    return DelayCause.CALLBACKS if running_s > delay_s / 2 else DelayCause.CORE


class CollectorClock:
    """Seconds that the garbage collector has run while the context `running` is open."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._began_s = 0.0

    @contextmanager
    def running(self) -> Generator[None]:
        """Measure the collections of this process while the context is open."""
        gc.callbacks.append(self._on_collection)
        try:
            yield
        finally:
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _info: Mapping[str, Any]) -> None:
        now_s = time.monotonic()
        if phase == "start":
            self._began_s = now_s
        else:
            self.total_s += now_s - self._began_s


async def sample_loop_delay() -> None:
    """Observe the delay of the running loop until cancelled."""
    collector = CollectorClock()
    with collector.running():
        while True:
            collected_s, ran_s = collector.total_s, time.thread_time()
            pause_s = random.uniform(0.5, 1.5) * _INTERVAL_S
            due_s = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            delay_s = max(time.monotonic() - due_s, 0.0)
            cause = main_cause(delay_s, collector.total_s - collected_s, time.thread_time() - ran_s)
            LOOP_DELAY.labels(cause).observe(delay_s)

"""Tests of the sampled delay of the event loop: its value and its cause."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from process.loop_delay import DelayCause, sample_loop_delay
from tests.waiting import until

_BLOCKED_S = 0.2
"""Long beside the delays that count, so that a sample is nearly always due in a part that leaves enough of it."""


def delayed(cause: DelayCause) -> float:
    """Return the number of delays over 25 ms with this cause."""
    name, labels = "infaas_event_loop_delay_seconds", {"cause": str(cause)}
    every = REGISTRY.get_sample_value(f"{name}_count", labels) or 0.0
    return every - (REGISTRY.get_sample_value(f"{name}_bucket", {**labels, "le": "0.025"}) or 0.0)


@asynccontextmanager
async def sampled() -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(sample_loop_delay())
        yield
        sampling.cancel()


def compute() -> None:
    """Use CPU time."""
    until_s = time.thread_time() + _BLOCKED_S
    while time.thread_time() < until_s:
        pass


def collect() -> None:
    """Collect garbage again and again."""
    until_s = time.monotonic() + _BLOCKED_S
    while time.monotonic() < until_s:
        gc.collect()


def wait_for_another() -> None:
    """Block without CPU time, as while another process has the core."""
    time.sleep(_BLOCKED_S)


@pytest.mark.parametrize(
    ("block", "cause"),
    [(compute, DelayCause.CALLBACKS), (collect, DelayCause.COLLECTOR), (wait_for_another, DelayCause.CORE)],
)
async def test_loop_delay_names_cause(block: Callable[[], None], cause: DelayCause) -> None:
    before = delayed(cause)

    async def has_delayed() -> bool:
        block()
        return delayed(cause) > before

    async with sampled():
        await until(has_delayed)


async def test_loop_delay_of_idle_loop_is_sampled() -> None:
    def samples() -> float:
        name = "infaas_event_loop_delay_seconds_count"
        return sum(REGISTRY.get_sample_value(name, {"cause": str(cause)}) or 0.0 for cause in DelayCause)

    before = samples()
    async with sampled():
        await until(lambda: samples() >= before + 3)
    callbacks = len(gc.callbacks)
    async with sampled():
        await asyncio.sleep(0)
        assert len(gc.callbacks) == callbacks + 1
    assert len(gc.callbacks) == callbacks

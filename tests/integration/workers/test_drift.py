"""Tests of profile drift: a lasting slowdown corrects the predictions, a temporary disturbance does not."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from numpy.typing import NDArray

from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from process.cpus import CpuMeter
from runtimes.onnx import OnnxSession
from runtimes.protocol import Tensors
from schemas import topics
from schemas.status import InstanceStatus, WorkerStatus
from store.registry import list_corrections
from tests.integration.workers.conftest import Results, Site, results_of
from tests.waiting import read_until
from workers.serving.health import LEAST_BATCHES, WINDOWS

PROFILED_S = 0.5


class Machine:
    """A machine whose clock advances only by the set duration of each batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batch_s, self.busy, self._now_ns = PROFILED_S, 0.1, time.monotonic_ns()
        infer = OnnxSession.infer

        def timed(session: OnnxSession, inputs: Tensors) -> dict[str, NDArray[Any]]:
            self._now_ns += int(self.batch_s * 1e9)
            return infer(session, inputs)

        def cpu(_meter: CpuMeter) -> float:
            return self.busy

        clock = SimpleNamespace(monotonic_ns=lambda: self._now_ns, thread_time=time.thread_time)
        monkeypatch.setattr("workers.serving.computation.time", clock)
        monkeypatch.setattr(OnnxSession, "infer", timed)
        monkeypatch.setattr(CpuMeter, "busy", cpu)


class Serving:
    """A serving worker that gets one query at a time."""

    def __init__(self, site: Site, producer: Producer, results: Results, tail: Tail) -> None:
        self._site, self._producer, self._results, self._tail = site, producer, results, tail
        self._asked = 0

    async def compute(self, batches: int) -> InstanceStatus:
        """Let it compute `batches` batches; return its status afterwards."""
        value, headers = self._site.value()
        for _ in range(batches):
            self._asked += 1
            await self._site.ask(self._producer, f"q{self._asked}", value, headers)
            await self._results.until(self._asked)
        while True:
            for record in await self._tail.poll():
                status = msgspec.json.decode(record.value or b"", type=WorkerStatus)
                for instance in status.instances:
                    if instance.answered == self._asked:
                        return instance


@asynccontextmanager
async def serving(site: Site, producer: Producer) -> AsyncGenerator[Serving]:
    async with (
        results_of(site) as results,
        Tail(site.kafka, "test-status", [topics.STATUS]) as tail,
        site.worker("cpu-0", drift_window_s=0.0),
    ):
        await site.place("cpu-0")
        yield Serving(site, producer, results, tail)


async def test_lasting_slowdown_is_corrected_until_remeasured(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    await site.register(batch_s=PROFILED_S)
    async with asyncio.timeout(250):
        async with serving(site, producer) as instance:
            assert (await instance.compute(LEAST_BATCHES)).correction == 1.0
            machine.batch_s = 2 * PROFILED_S
            said = await instance.compute(LEAST_BATCHES * WINDOWS)
            (row,) = await read_until(lambda: list_corrections(site.pool, variant=site.variant), bool)
            assert row.factor == pytest.approx(2.0, rel=0.1)
            assert (await instance.compute(LEAST_BATCHES)).slowdown == pytest.approx(1.0, rel=0.2)
            assert said.slowdown > 1.5, "as long as it was not sure, something interfered"
        async with serving(site, producer) as instance:
            assert (await instance.compute(1)).correction == row.factor, "its successor knows"
            await site.register(batch_s=2 * PROFILED_S)
            await read_until(lambda: list_corrections(site.pool, variant=site.variant), lambda rows: not rows)
            while (said := await instance.compute(1)).correction != 1.0:
                pass
            assert (await instance.compute(LEAST_BATCHES)).slowdown == pytest.approx(1.0, rel=0.2)


async def test_temporary_interference_corrects_nothing(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    await site.register(batch_s=PROFILED_S)
    async with asyncio.timeout(250), serving(site, producer) as instance:
        machine.batch_s = 3 * PROFILED_S
        await instance.compute(LEAST_BATCHES * (WINDOWS - 1))
        machine.batch_s = PROFILED_S
        assert (await instance.compute(LEAST_BATCHES)).correction == 1.0
        machine.batch_s, machine.busy = 3 * PROFILED_S, 0.95
        said = await instance.compute(LEAST_BATCHES * WINDOWS)
        assert (said.correction, said.slowdown > 2) == (1.0, True), "the machine is busy, so that is no wonder"
        assert await list_corrections(site.pool) == []

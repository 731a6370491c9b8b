"""Tests of worker processes that die: their queries are answered by their successors."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.fetch.tail import Tail
from broker.kafka.settings import ReplyStreamSettings
from broker.producing.producer import Producer
from broker.replies.receiver import ReplyStreamReceiver
from schemas import headers as h
from schemas import topics
from tests.integration.workers.conftest import Site, results_of
from tests.processes import begun_with


@contextmanager
def process(site: Site, name: str, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    running = site.spawn(name, **environment)
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


async def test_sigkill_under_load_loses_no_query(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results:
        with process(site, "cpu-kill") as first:
            await site.place("cpu-kill")
            async with asyncio.TaskGroup() as tasks:
                for number in range(2000):
                    await site.ask_soon(producer, f"q{number}", value, headers, partition=number % 2)
                    if number == 1000:
                        tasks.create_task(kill_when_answering(first, results.until(500)))
        with process(site, "cpu-kill") as second:
            await site.ask(producer, "last", value, headers)  # the first may have answered all others
            found = await results.until(2001)
            second.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.wait, 100) == 0
    assert {result.status for result in found.values()} == {"ok"}


async def kill_when_answering(worker: subprocess.Popen[bytes], answering: Awaitable[object]) -> None:
    await answering
    os.kill(worker.pid, signal.SIGKILL)


async def test_unacknowledged_result_of_killed_worker_is_repeated(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    straight: list[str] = []
    killed, again = asyncio.Event(), asyncio.Event()

    def on_result(raw: h.RawHeaders, _value: bytes) -> None:
        """Kill the worker that sent a result before the result is acknowledged."""
        straight.append(h.as_text(raw)[h.ID])
        if not killed.is_set():
            first.kill()
            killed.set()
        elif straight[-1] == straight[0]:
            again.set()

    async with ReplyStreamReceiver(ReplyStreamSettings(), on_result) as receiver, results_of(site) as results:
        listening = [*headers, (h.REPLY_STREAM, receiver.header)]
        asked = 0
        with process(site, "cpu-kill") as first:
            await site.place("cpu-kill")
            while not killed.is_set():  # results arrive by the topic until the reply stream is connected
                asked += 1
                await site.ask(producer, f"q{asked}", value, listening)
                await either(killed.wait(), results.until(asked))
        with process(site, "cpu-kill"):
            await either(again.wait(), results.until(asked))
        assert again.is_set() or straight[0] in {result.id for result in results.all}


async def either(*awaited: Coroutine[None, None, object]) -> None:
    """Wait for the first of several awaitables."""
    async with asyncio.TaskGroup() as tasks:
        waiting = {tasks.create_task(coroutine) for coroutine in awaited}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


@pytest.mark.parametrize("cores", ["1", "2"])
async def test_query_that_kills_worker_fails_alone(site: Site, producer: Producer, tmp_path: Path, cores: str) -> None:
    """The runtime is real, but kills its process at one input, as a crash in native code would.

    That batch waits for a batch in another slot, if there is one, which then computes until the process dies.
    """
    await site.register(batch_s=0.01)
    python = begun_with(POISONED, tmp_path)
    value, headers = site.value()
    poison, poison_headers = site.value(1)
    async with results_of(site) as results, Tail(site.kafka, "test-dead", [topics.DEAD_LETTERS]) as dead_letters:
        for number in range(11):
            await site.ask(producer, f"good{number}", value, headers)
        await site.ask(producer, "poison", poison, poison_headers)
        lives = 0
        placed = False
        while len({result.id for result in results.all}) < 12:
            lives += 1
            with process(site, "cpu-poison", **python, INFAAS_WORKERS_CORES=cores) as worker:
                if not placed:
                    await site.place("cpu-poison")
                    placed = True
                async with asyncio.TaskGroup() as tasks:
                    dying = tasks.create_task(asyncio.to_thread(worker.wait, 100))
                    answering = tasks.create_task(results.until(12))
                    await asyncio.wait({dying, answering}, return_when=asyncio.FIRST_COMPLETED)
                    answering.cancel()
                    worker.kill()
        found = {result.id: result.status for result in results.all}
        letters = [record.value for record in await dead_letters.poll()]
    assert found == {f"good{number}": "ok" for number in range(11)} | {"poison": "model_failed"}
    assert lives == 4
    assert poison in letters


POISONED = """
import os, signal, threading
import numpy as np
from runtimes import onnx
from zoo.samples import labelled
infer = onnx.OnnxSession.infer
poison = labelled("digits")[0]["input"][1]
deadly_computes, other_computes = threading.Event(), threading.Event()
def deadly(self, inputs):
    if any(np.array_equal(image, poison) for image in inputs["input"]):
        deadly_computes.set()
        other_computes.wait(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    other_computes.set()
    if deadly_computes.wait(0.2):
        threading.Event().wait()
    other_computes.clear()
    return infer(self, inputs)
onnx.OnnxSession.infer = deadly
"""

"""Tests of processes with wrong clocks, which are also set while queries flow; libfaketime shifts their time.

Kafka and Postgres keep the right time. All other clocks are one or two hours ahead or behind, and an answer is wanted
within ten seconds. A process that compared two of these clocks would refuse or expire every query.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.kafka.topics import ensure_task_topics
from broker.producing.producer import Producer
from process.sockets import free_port
from schemas import headers as h
from schemas.headers import RawHeaders
from schemas.result import Result
from schemas.topics import task_topic
from store.samples import latest_lag
from tests.chaos.shifted_clock import shifted_clock
from tests.integration.workers.conftest import PARTITIONS, Results, Site, producer, results_of, site
from tests.processes import begun_with, output_of, service
from tests.system.infaas.plain_client import body_of
from tests.waiting import read_until

pytestmark = pytest.mark.needs_faketime

__all__ = ["producer", "site"]

WORKERS = ("cpu-ahead", "cpu-behind")
LATENCY_MS = 10_000
WIDE_S = 3600
BURST = 16
BURSTS = 4
UP_S = 120.0
UNSURE_S = 0.1
"""Allowed error of the known broker's time on a busy machine, in seconds."""

SLOW = """
import threading
from runtimes import onnx
infer = onnx.OnnxSession.infer
def slow(self, inputs):
    threading.Event().wait(0.02)
    return infer(self, inputs)
onnx.OnnxSession.infer = slow
"""
"""Slows each batch, so that a burst exceeds the capacity of one worker. `time.sleep` fails under libfaketime."""

ASK = """
import asyncio, sys, time
import numpy as np
from infaas.client.client import InfaasClient
from zoo.samples import labelled
async def ask(task, kafka):
    image = labelled("digits")[0]["input"][:1]
    async with InfaasClient(kafka=kafka) as client:
        for _ in range(3):
            began = time.perf_counter()
            calls = [client.infer(task, {"input": image}, latency_ms=LATENCY_MS) for _ in range(8)]
            answers = await asyncio.gather(*calls)
            most_ms = (time.perf_counter() - began + UNSURE_S) * 1e3
            assert all(0 <= answer.queue_ms <= most_ms for answer in answers), answers
asyncio.run(ask(*sys.argv[1:]))
"""


class WrongClock:
    """Wrong clock of processes, which can be set while they run."""

    def __init__(self, file: Path, by_s: int) -> None:
        self._file = file
        self.by_s = by_s
        self.set(by_s)

    def set(self, by_s: int) -> None:
        self.by_s = by_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{by_s:+d}s")
        new.replace(self._file)

    def now_s(self) -> float:
        return time.time() + self.by_s

    def environment(self) -> dict[str, str]:
        shared = shifted_clock()
        if shared is None:
            pytest.skip("libfaketime or a C compiler is not installed: apt-get install faketime g++")
        return {**shared, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_CACHE_DURATION": "1"}


def running(
    clock: WrongClock, module: str, *words: str, env: Mapping[str, str]
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return service(module, *words, env={**clock.environment(), **env})


class Crowd:
    """Clients of one task, and all results that they received."""

    def __init__(self, site: Site, producer: Producer, results: Results, http: aiohttp.ClientSession) -> None:
        self.site, self.results = site, results
        self._producer, self._http = producer, http
        self._numbers = iter(range(1_000_000))

    async def burst(self, headers: Callable[[], RawHeaders]) -> list[Result]:
        """Send a burst of queries; assert that all are answered and that no reported time exceeds the elapsed time."""
        began = time.perf_counter()
        value, described = self.site.value()
        asked = [f"q{next(self._numbers)}" for _ in range(BURST)]
        for query_id in asked:
            fixed = [(h.ID, query_id.encode()), (h.REPLY_TO, self.site.replies.encode()), *described]
            await self._producer.send(task_topic(self.site.task), value, headers=[*fixed, *headers()])
        found = await self.results.until(len({result.id for result in self.results.all}) + BURST)
        passed_ns = (time.perf_counter() - began + UNSURE_S) * 1e9
        answers = [found[query_id] for query_id in asked]
        assert {answer.status for answer in answers} == {"ok"}
        for answer in answers:
            assert 0 <= answer.task_queue_ns + answer.variant_queue_ns <= passed_ns
            assert 0 < answer.predicted_ns < LATENCY_MS * 1e6
        return answers

    async def until_served(self) -> None:
        """Send queries until every worker has answered."""
        async with asyncio.timeout(UP_S):
            while {answer.worker for answer in await self.burst(list)} != set(WORKERS):
                pass

    async def post(self, url: str, **headers: str) -> Mapping[str, Any]:
        named = {"infaas-" + name.replace("_", "-"): text for name, text in headers.items()}
        async with self._http.post(
            f"{url}/v2/models/{self.site.task}/infer", json=body_of(self.site.images[:1]), headers=named
        ) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


def with_latency() -> RawHeaders:
    return [(h.LATENCY_MS, str(LATENCY_MS).encode())]


def deadline_by(clock: WrongClock) -> RawHeaders:
    """Return the headers of a producer that knows only the clock of its own machine."""
    now_s = clock.now_s()
    return [(h.DEADLINE_MS, b"%d" % (now_s * 1e3 + LATENCY_MS)), (h.SENT_NS, b"%d" % (now_s * 1e9))]


@pytest.mark.timeout(300)
async def test_only_brokers_clock_decides_about_queries(site: Site, producer: Producer, tmp_path: Path) -> None:
    # To each selector, the statuses of one worker seem to come from the future, and those of the other seem old.
    far_ahead, ahead, behind, far_behind = (
        WrongClock(tmp_path / str(hours), hours * WIDE_S) for hours in (2, 1, -1, -2)
    )
    await site.register(batch_s=0.02)
    await ensure_task_topics(site.kafka, site.task, PARTITIONS)
    port = free_port()
    gateway = f"http://127.0.0.1:{port}"
    everyone = site.variables | {"INFAAS_WORKERS_CORES": "1"} | begun_with(SLOW, tmp_path)
    async with (
        aiohttp.ClientSession() as http,
        results_of(site) as results,
        running(far_ahead, "workers", "--name", WORKERS[0], env=everyone),
        running(far_behind, "workers", "--name", WORKERS[1], env=everyone),
        running(behind, "selector", env=everyone),
        running(ahead, "selector", env=everyone),
        running(behind, "gateway", "--port", str(port), env=everyone),
    ):
        for partition, worker in enumerate(WORKERS):
            await site.place(worker, [partition])
        crowd = Crowd(site, producer, results, http)
        await crowd.until_served()
        for _ in range(2):
            answers = [answer for _ in range(BURSTS) for answer in await crowd.burst(with_latency)]
            for clock in (ahead, behind):
                answers += await crowd.burst(lambda clock=clock: deadline_by(clock))
            spread = {answer.worker for answer in answers}
            assert spread == set(WORKERS)
            await ask_by_http(crowd, gateway, ahead)
            await ask_by_library(site, ahead, everyone)
            for clock in (ahead, behind, far_ahead, far_behind):
                clock.set(-clock.by_s)


async def ask_by_http(crowd: Crowd, gateway: str, clock: WrongClock) -> None:
    for _ in range(5):
        answer = await crowd.post(gateway, latency_ms=str(LATENCY_MS))
        assert 0 <= answer["parameters"]["queue_ms"] < LATENCY_MS
        said = {name.removeprefix("infaas-").replace("-", "_"): text.decode() for name, text in deadline_by(clock)}
        await crowd.post(gateway, **said)


async def ask_by_library(site: Site, clock: WrongClock, environment: Mapping[str, str]) -> None:
    program = ASK.replace("LATENCY_MS", str(LATENCY_MS)).replace("UNSURE_S", str(UNSURE_S))
    variables = {**clock.environment(), **environment}
    code, output = await output_of("-c", program, site.task, site.kafka.bootstrap, env=variables)
    assert code == 0, output


@pytest.mark.timeout(200)
async def test_autoscaler_samples_do_not_use_its_own_clock(site: Site, producer: Producer, tmp_path: Path) -> None:
    """`infaas lag`, with the same wrong clock, does not take the samples for old, either."""
    await site.register()
    await ensure_task_topics(site.kafka, site.task, PARTITIONS)
    await producer.send_and_wait(task_topic(site.task), b"waits", partition=0)
    clock = WrongClock(tmp_path / "clock", WIDE_S)
    async with running(clock, "autoscaler", "--interval-s=0.2", env=site.variables):
        rows = await read_until(lambda: latest_lag(site.pool), lambda rows: any(row.lag for row in rows), UP_S)
        waiting = next(row for row in rows if row.lag)
        alarms = await alarms_of_lag(clock, site.variables)
    assert alarms == []
    assert abs((waiting.at - datetime.now(UTC)).total_seconds()) < WIDE_S / 2
    assert 0 <= (waiting.lag_s or 0.0) < WIDE_S / 2


async def alarms_of_lag(clock: WrongClock, environment: Mapping[str, str]) -> list[str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infaas.cli.main", "lag", "--json"),
        env={**os.environ, **clock.environment(), **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(UP_S):
        output, _ = await child.communicate()
    return json.loads(output)["alarms"]

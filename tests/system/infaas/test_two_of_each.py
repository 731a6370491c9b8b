"""Test of two of each service, started by hand with the same settings, under load: each query id is counted."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from process.health import responds
from schemas.rows.cluster import InstanceRow
from schemas.status import SERVING
from schemas.topics import offline_topic, task_topic
from store.placement import list_instances
from store.pool import Pool
from tests.load import Pace
from tests.processes import Services, service, services, variables_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, post, query, results_of, steadily, write_steadily
from tests.system.infaas.test_selectors import decisions
from tests.waiting import read_until, until

pytestmark = pytest.mark.needs_minutes

SERVICES: Final = ("workers", "selector", "autoscaler", "gateway.jobs", "gateway")
PARTITIONS: Final = 4
ASKED: Final = 400
"""Queries of each client in each part of the test."""
RATE: Final = 100.0
MODEL: Final = "digits_linear.onnx"
LISTED: Final = 1000
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})


async def test_two_of_each_service_answer_every_query(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, cli: Cli
) -> None:
    env = variables_of(kafka, database, tmp_path)
    task = f"twice-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    await cli.register(MODEL, f"--name={task}-linear", f"--partitions={PARTITIONS}", task=task, data="digits", env=env)
    await cli.json("scale", "pin", "task", task, "--min=2", **env)
    async with services(SERVICES * 2, env) as started, results_of(kafka.bootstrap, task) as results:
        await read_until(lambda: list_instances(store_pool), serve_on_two, PATIENCE_S)
        await ready(started.urls["gateway"], task)
        names = await worker_names(store_pool)
        assert len(names) == 2, "each has a name of its own"
        first, jobs = set[str](), set[str]()

        async def both_decide() -> bool:
            # A member learns of a new topic with a delay; until then the other one decides alone.
            first.update(await ask(kafka.bootstrap, started, task, f"calm-{len(first)}", jobs))
            return 0 not in [await decisions(f"{url}/metrics") for url in started.urls["selector"]]

        await until(both_decide, PATIENCE_S)
        await results.of(first)
        assert results.seen == Counter(first)
        assert not any(process.returncode for both in started.processes.values() for process in both)

        then, _ = await asyncio.gather(ask(kafka.bootstrap, started, task, "killed", jobs), kill_the_first(started))
        await results.of(then)  # at least once: some may be answered twice
        assert results.seen.keys() == first | then
        await all_succeed(jobs, f"{started.urls['gateway'][1]}/v2/models/{task}/jobs")
        await has_successor(store_pool, names, env)


async def has_successor(pool: Pool, names: list[str], env: dict[str, str]) -> None:
    """Start another worker with the same settings: it takes the name of the killed one."""
    async with service("workers", env=env):
        await until(lambda: has_epoch(pool, 2))
        assert await worker_names(pool) == names


async def worker_names(pool: Pool) -> list[str]:
    return (await pool.fetch_value(str, "SELECT string_agg(name, ' ' ORDER BY name) FROM workers") or "").split()


async def has_epoch(pool: Pool, epoch: int) -> bool:
    return await pool.fetch_value(int, "SELECT max(epoch) FROM workers") == epoch


async def kill_the_first(started: Services) -> None:
    """Kill the first process of each service with SIGKILL, one after the other, while queries arrive."""
    async for number in Pace(2 * len(SERVICES) * RATE / ASKED, 1 + len(SERVICES)):
        if number:  # spreads the kills over the test; the first beat kills none
            started.processes[SERVICES[number - 1]][0].kill()


def serve_on_two(rows: list[InstanceRow]) -> bool:
    return len({row.worker for row in rows if row.state in SERVING}) == 2


async def ready(gateways: list[str], task: str) -> None:
    """Wait until both gateways know the task."""
    async with aiohttp.ClientSession() as http:
        for url in gateways:
            await until(lambda url=url: responds(http, f"{url}/v2/models/{task}/ready"))


async def ask(kafka: str, started: Services, task: str, name: str, jobs: set[str]) -> set[str]:
    """Send queries at a steady rate by Kafka, HTTP and as jobs; return the ids that Kafka acknowledged."""
    asked: set[str] = set()
    later, models = f"offline-{name}", [f"{url}/v2/models/{task}" for url in started.urls["gateway"]]
    await asyncio.gather(
        write_steadily(kafka, task_topic(task), name, Pace(RATE, ASKED), PARTITIONS, asked),
        write_steadily(kafka, offline_topic(task), later, Pace(RATE, ASKED), PARTITIONS, asked, mode="offline"),
        ask_http([f"{model}/infer" for model in models], name),
        ask_for_jobs([f"{model}/jobs" for model in models], name, jobs),
    )
    assert len(asked) == 2 * ASKED
    return asked


async def ask_http(urls: list[str], name: str) -> None:
    """Query both gateways in turn at a steady rate; retry a failed query at the other under the same id."""
    answered: Counter[str] = Counter()

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        query_id = f"http-{name}-{number}"
        await post(http, turned(urls, number), query(), 200, **{"infaas-id": query_id})
        answered[query_id] += 1

    await steadily(ask, RATE, ASKED)
    assert answered == Counter(f"http-{name}-{number}" for number in range(ASKED))


async def ask_for_jobs(urls: list[str], name: str, jobs: set[str]) -> None:
    """Submit jobs to both gateways in turn; retry a failed submission at the other under the same key."""
    kept: dict[int, str] = {}

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        key = {"Idempotency-Key": f"job-{name}-{number}"}
        answer = await post(http, turned(urls, number), query(), 202, **key)
        kept[number] = json.loads(answer)["id"]

    await steadily(ask, RATE, ASKED)
    assert len(set(kept.values())) == ASKED
    jobs.update(kept.values())


def turned(urls: list[str], number: int) -> list[str]:
    """Return the URLs, the one of this turn first."""
    return urls[number % 2 :] + urls[: number % 2]


async def all_succeed(asked: set[str], jobs: str) -> None:
    """Wait until no job is open; assert that each was stored once and has succeeded."""
    async with aiohttp.ClientSession() as http:

        async def states() -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            page: dict[str, str] = {}
            while True:
                async with http.get(jobs, params={"limit": str(LISTED), **page}) as answer:
                    listed = await answer.json()
                found += [(job["id"], job["state"]) for job in listed["jobs"]]
                if listed["next"] is None:
                    return found
                page = {"before": listed["next"]}

        ended = await read_until(states, lambda found: all(state in ENDED for _, state in found), PATIENCE_S)
    assert Counter(ended) == Counter((job, "succeeded") for job in asked)

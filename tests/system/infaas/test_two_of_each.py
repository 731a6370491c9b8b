"""Test of two of each service, started by hand with the same settings, under load: each query id is counted."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from broker.settings import KafkaSettings
from broker.topics import ensure_system_topics
from process.liveness import responds
from process.ports import LOOPBACK, free_port
from schemas.rows.placement import InstanceRow
from schemas.status import SERVING
from schemas.topics import offline_topic, task_topic
from store.placement import list_instances
from store.pool import Pool
from tests.load import Pace
from tests.processes import service, variables_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, query, results_of, write_steadily
from tests.system.infaas.test_selectors import decisions
from tests.waiting import read_until, until

pytestmark = pytest.mark.timeout(400)
SERVICES: Final = ("workers", "selector", "autoscaler", "jobs", "gateway")
PARTITIONS: Final = 4
ASKED: Final = 400
"""Queries of each client in each part of the test."""
RATE: Final = 100.0
MODEL: Final = "digits_linear.onnx"
AGAIN_PER_S: Final = 20.0
LISTED: Final = 1000
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})


class Started(NamedTuple):
    """The first and second process of each service, their URLs, and the ids of accepted jobs."""

    processes: dict[str, list[asyncio.subprocess.Process]]
    urls: dict[str, list[str]]
    jobs: set[str]


async def test_two_of_each_service_answer_every_query(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, cli: Cli
) -> None:
    env = variables_of(kafka, database, tmp_path)
    task = f"twice-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    await cli.register(MODEL, f"--name={task}-linear", f"--partitions={PARTITIONS}", task=task, data="digits", env=env)
    await cli.json("scale", "pin", "task", task, "--min=2", **env)
    async with two_of_each(env) as started, results_of(kafka.bootstrap, task) as results:
        await read_until(lambda: list_instances(store_pool), serve_on_two, PATIENCE_S)
        await ready(started.urls["gateway"], task)
        first: set[str] = set()

        async def both_decide() -> bool:
            # A member learns of a new topic with a delay; until then the other one decides alone.
            first.update(await ask(kafka.bootstrap, started, task, f"calm-{len(first)}"))
            return 0 not in [await decisions(f"{url}/metrics") for url in started.urls["selector"]]

        await until(both_decide, PATIENCE_S)
        await results.of(first)
        assert results.seen == Counter(first)

        then, _ = await asyncio.gather(ask(kafka.bootstrap, started, task, "killed"), kill_the_first(started))
        await results.of(then)  # at least once: some may be answered twice
        assert results.seen.keys() == first | then
        await all_succeed(started.jobs, f"{started.urls['gateway'][1]}/v2/models/{task}/jobs")


@asynccontextmanager
async def two_of_each(env: dict[str, str]) -> AsyncGenerator[Started]:
    """Run two of each service with equal settings, except for ports, which are unique on a machine."""
    started = Started({}, {}, set())
    async with AsyncExitStack() as stack:
        for name in SERVICES * 2:
            port = free_port()
            ports = {f"INFAAS_{name.upper()}_{'PORT' if name == 'gateway' else 'METRICS_PORT'}": str(port)}
            process = await stack.enter_async_context(service(name, env=env | ports))
            started.processes.setdefault(name, []).append(process)
            started.urls.setdefault(name, []).append(f"http://{LOOPBACK}:{port}")
        yield started


async def kill_the_first(started: Started) -> None:
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


async def ask(kafka: str, started: Started, task: str, name: str) -> set[str]:
    """Send queries at a steady rate by Kafka, HTTP and as jobs; return the ids that Kafka acknowledged."""
    asked: set[str] = set()
    later = f"offline-{name}"
    await asyncio.gather(
        write_steadily(kafka, task_topic(task), name, Pace(RATE, ASKED), PARTITIONS, asked),
        write_steadily(kafka, offline_topic(task), later, Pace(RATE, ASKED), PARTITIONS, asked, mode="offline"),
        ask_http(started.urls["gateway"], task, name),
        ask_for_jobs(started, task, name),
    )
    assert len(asked) == 2 * ASKED
    return asked


async def ask_http(gateways: list[str], task: str, name: str) -> None:
    """Query both gateways in turn at a steady rate; retry a failed query at the other under the same id."""
    answered: Counter[str] = Counter()

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        query_id = f"http-{name}-{number}"
        await post(http, gateways, f"/v2/models/{task}/infer", number, 200, {"infaas-id": query_id})
        answered[query_id] += 1

    await steadily(ask)
    assert answered == Counter(f"http-{name}-{number}" for number in range(ASKED))


async def ask_for_jobs(started: Started, task: str, name: str) -> None:
    """Submit jobs to both gateways in turn; retry a failed submission at the other under the same key."""
    kept: dict[int, str] = {}

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        key = {"Idempotency-Key": f"job-{name}-{number}"}
        answer = await post(http, started.urls["gateway"], f"/v2/models/{task}/jobs", number, 202, key)
        kept[number] = json.loads(answer)["id"]

    await steadily(ask)
    assert len(set(kept.values())) == ASKED
    started.jobs.update(kept.values())


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


async def steadily(ask: Callable[[aiohttp.ClientSession, int], Coroutine[None, None, None]]) -> None:
    """Call `ask` at a steady rate, without waiting for earlier calls."""
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as asking,
    ):
        async for number in Pace(RATE, ASKED):
            asking.create_task(ask(http, number))


async def post(
    http: aiohttp.ClientSession, gateways: list[str], path: str, number: int, status: int, headers: dict[str, str]
) -> bytes:
    """Post to the gateways in turn until one answers with this status; return the body."""
    async for tries in Pace(AGAIN_PER_S):
        with suppress(aiohttp.ClientError):
            async with http.post(f"{gateways[(number + tries) % 2]}{path}", data=query(), headers=headers) as answer:
                if answer.status == status:
                    return await answer.read()
    raise AssertionError("it goes on for ever")

"""Test of two `infaas up` of one system, as on two machines: they share the load, and names do not collide."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from schemas.status import SERVING
from schemas.topics import task_topic
from store.placement import list_instances
from store.pool import Pool
from tests.load import Pace
from tests.processes import variables_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, results_of, write_steadily
from tests.waiting import read_until

pytestmark = [pytest.mark.needs_minutes, pytest.mark.timeout(500)]
RATE = 50.0
ASKED = 300
PARTITIONS = 4
EXPELLED = ("another process has joined", "another selector named", "another worker named", "expelled")


async def test_two_homes_share_one_system(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    task = f"homes-{uuid4().hex[:8]}"
    env = variables_of(kafka, database) | {"INFAAS_ARTIFACTS": str(tmp_path / "artifacts")}
    homes = [Cli(tmp_path / name / "home") for name in ("one", "two")]
    async with AsyncExitStack() as stack:
        for cli in homes:
            await stack.enter_async_context(cli.up(**env))
        states = [await cli.state() for cli in homes]
        workers = [name for state in states for name in state["services"] if name.startswith("worker-")]
        assert len(set(workers)) == 2, "names are unique across homes"
        await homes[0].register(
            "digits_linear.onnx", f"--name={task}-linear", f"--partitions={PARTITIONS}", task=task, data="digits",
            env=env,
        )  # fmt: skip
        await homes[0].json("scale", "pin", "task", task, "--min=2", **env)
        both = await read_until(lambda: list_instances(store_pool), lambda rows: len(serving(rows)) == 2, PATIENCE_S)
        assert serving(both) == {name.removeprefix("worker-") for name in workers}
        results = await stack.enter_async_context(results_of(kafka.bootstrap, task))

        calm: set[str] = set()
        await write_steadily(kafka.bootstrap, task_topic(task), "calm", Pace(RATE, ASKED), PARTITIONS, calm)
        assert await results.of(calm) == Counter(calm), "each is read once"
        after = [await cli.state() for cli in homes]
        assert [logs_of_restarted(state) for state in after] == [{}, {}]
        assert [line for cli in homes for line in logged(cli, EXPELLED)] == []
        await is_refused(homes[0], Cli(tmp_path / "copy" / "home"), env)
        assert restarts(await homes[0].state()) == 0

        killed: set[str] = set()
        victims = [state["services"][name]["pid"] for state in states for name in sorted(state["services"])]
        async with asyncio.TaskGroup() as tasks:
            pace = Pace(RATE, ASKED * 2)
            tasks.create_task(write_steadily(kafka.bootstrap, task_topic(task), "killed", pace, PARTITIONS, killed))
            async for number in Pace(len(victims) * RATE / ASKED / 2, len(victims)):
                os.kill(victims[number], signal.SIGKILL)
        await results.of(killed)  # at least once
        assert results.seen.keys() == calm | killed
        healed = [await cli.state_when(lambda now: restarts(now) >= len(victims) / 2) for cli in homes]
        assert sum(restarts(state) for state in healed) == len(victims), "each was started again once"
        assert {name for state in healed for name in state["services"]} >= set(workers)


async def is_refused(one: Cli, copy: Cli, env: dict[str, str]) -> None:
    """Assert that a copied data folder, which has the name of the running one, does not start."""
    name = (one.home / "name").read_text()
    copy.home.mkdir(parents=True)
    (copy.home / "name").write_text(name)
    code, _, err = await copy.run("up", "--gateway-port=0", "--jobs=0", "--registrars=0", **env)
    assert code == 1
    assert f"another selector named {name.strip()}-selector runs" in err


def serving(rows: list[Any]) -> set[str]:
    return {row.worker for row in rows if row.state in SERVING}


def restarts(state: Any) -> int:
    return sum(service["restarts"] for service in state["services"].values())


def logs_of_restarted(state: Any) -> dict[str, str]:
    """Return the log of each service that was started again, so that a failure shows the reason."""
    return {
        name: Path(service["log"]).read_text() for name, service in state["services"].items() if service["restarts"]
    }


def logged(cli: Cli, words: tuple[str, ...]) -> list[str]:
    logs = (cli.home / "logs").glob("*.log")
    return [line for log in logs for line in log.read_text().splitlines() if any(word in line for word in words)]

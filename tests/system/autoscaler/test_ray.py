"""Test of the Ray launcher on a Ray cluster of several nodes on this machine, with real workers."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psutil
import pytest

from autoscaler.launchers.base import Launcher, LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.launchers.registry import open_launcher
from autoscaler.settings import AutoscalerSettings
from bench.scale.ray_nodes import RayNodes, ray_nodes
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from store.placement import list_workers
from store.pool import Pool
from tests.processes import variables_of, words_of
from tests.waiting import read_until

pytestmark = [pytest.mark.needs_ray, pytest.mark.timeout(600)]
T = TypeVar("T")
_SOON_S = 120.0
_OFFER = '{"maximum": 6, "memory_bytes": 500000000}'


@pytest.fixture
async def environment(kafka: KafkaSettings, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that workers inherit from the autoscaler."""
    await ensure_system_topics(kafka)
    for name, value in variables_of(kafka, database, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFAAS_HANG_S", "6")


async def test_ray_launcher_runs_workers_on_cluster(
    environment: None, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AutoscalerSettings(launcher="ray")
    async with ray_nodes(3, 2) as nodes:
        monkeypatch.setenv("INFAAS_RAY_ADDRESS", nodes.address)
        monkeypatch.setenv("INFAAS_RAY_HARDWARE", f'{{"cpu": {_OFFER}, "cuda": {_OFFER}}}')
        async with open_launcher(settings) as first, open_launcher(settings) as second:
            await _spread_and_adopted(first, second, nodes, store_pool)
            await asyncio.to_thread(_shows_no_password, nodes)
            await _goes_on_with_another_driver(second)
            await _moved_from_a_dead_node(second, nodes, store_pool)
            await _started_again_when_it_hangs(store_pool)
            await _waits_for_a_node_and_is_given_up(second)
            await _failed_with_its_reason(second, monkeypatch)
            await _stopped_in_good_order(second, nodes, store_pool)


async def _spread_and_adopted(first: Launcher, second: Launcher, nodes: RayNodes, pool: Pool) -> None:
    names = ["cpu-0", "cpu-1", "cpu-2"]
    for name in names:
        await first.start("cpu", name)
    # A new leader does not know which workers were started, so it starts all of them again.
    for name in names:
        await second.start("cpu", name)
    assert [entry.worker for entry in await second.running()] == names
    await _when(lambda: _epochs(pool), lambda epochs: epochs == dict.fromkeys(names, 1))
    assert sorted(nodes.workers().values()) == [0, 1, 2]  # each node has room for two
    for launcher in (first, second):  # a worker counts as starting until it reports its state
        await _when(launcher.running, lambda found: found == [_running(name) for name in names])


def _shows_no_password(nodes: RayNodes) -> None:
    """Assert that no command line and no log of Ray contains the Postgres password of the workers."""
    password = urlsplit(os.environ["INFAAS_POSTGRES"]).password
    assert password
    lines = {process.pid: process.info["cmdline"] for process in psutil.process_iter(["cmdline"])}
    assert any("raylet" in " ".join(line or ()) for line in lines.values())
    assert not [pid for pid, line in lines.items() if password in " ".join(line or ())]
    logs = [path for path in Path(nodes.folder).rglob("logs/**/*") if path.is_file()]
    assert logs
    assert not [path for path in logs if password.encode() in path.read_bytes()]


async def _moved_from_a_dead_node(launcher: Launcher, nodes: RayNodes, pool: Pool) -> None:
    before = nodes.workers()
    nodes.kill(before["cpu-1"])
    await _when(launcher.running, lambda found: "cpu-1" not in {entry.worker for entry in found})
    await launcher.start("cpu", "cpu-1")
    await _when(lambda: _epochs(pool), lambda epochs: epochs == {"cpu-0": 1, "cpu-1": 2, "cpu-2": 1})
    after = nodes.workers()
    assert after.pop("cpu-1") != before.pop("cpu-1")
    assert after == before


async def _started_again_when_it_hangs(pool: Pool) -> None:
    hung = next(p for p in psutil.process_iter() if _is_worker(p, "cpu-0"))
    hung.suspend()
    await _when(lambda: _epochs(pool), lambda epochs: epochs.get("cpu-0") == 2)
    assert not hung.is_running()


def _is_worker(process: psutil.Process, name: str) -> bool:
    try:
        environment = process.environ() if process.cmdline()[1:] == ["-m", "workers"] else {}
    except psutil.Error:
        return False
    return (environment.get("INFAAS_WORKERS_NAME"), environment.get("INFAAS_HOME")) == (name, os.environ["INFAAS_HOME"])


async def _waits_for_a_node_and_is_given_up(launcher: Launcher) -> None:
    for _ in range(2):  # no node has a GPU
        await launcher.start("cuda", "cuda-0")
    waiting = LaunchedWorker(worker="cuda-0", hardware="cuda", state=LaunchState.STARTING)
    assert (await launcher.running()).count(waiting) == 1
    await launcher.stop("cuda-0")
    await _when(launcher.running, lambda found: "cuda-0" not in {entry.worker for entry in found})


async def _failed_with_its_reason(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("INFAAS_KAFKA", "nonsense")
        await launcher.start("cpu", "cpu-3")
    found = await _when(launcher.running, lambda found: LaunchState.FAILED in {entry.state for entry in found})
    assert next(entry.reason for entry in found if entry.worker == "cpu-3").endswith(
        "write host:port, e.g. 127.0.0.1:9092"
    )
    await launcher.start("cpu", "cpu-3")  # again, with a valid address of Kafka
    await _when(launcher.running, lambda found: _running("cpu-3") in found)


async def _stopped_in_good_order(launcher: Launcher, nodes: RayNodes, pool: Pool) -> None:
    await _when(lambda: _epochs(pool), lambda epochs: "cpu-3" in epochs)
    for name in ("cpu-0", "cpu-1", "cpu-2", "cpu-3", "cpu-9"):
        await launcher.stop(name)
    await _when(launcher.running, lambda found: found == [])
    assert nodes.workers() == {}
    assert await list_workers(pool) == []  # each has retired


async def _goes_on_with_another_driver(launcher: Launcher) -> None:
    before = await launcher.running()
    drivers = [p for p in psutil.Process().children() if "autoscaler.launchers.ray.driver" in words_of(p)]
    max(drivers, key=psutil.Process.create_time).kill()
    with pytest.raises(LauncherError, match="cannot be reached"):
        await launcher.running()
    await _when(launcher.running, lambda found: found == before)


def _running(name: str) -> LaunchedWorker:
    return LaunchedWorker(worker=name, hardware="cpu", state=LaunchState.RUNNING)


async def _epochs(pool: Pool) -> dict[str, int]:
    """Return the epoch of each living worker, which counts its registrations."""
    return {row.name: row.epoch for row in await list_workers(pool) if row.alive}


async def _when(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    return await read_until(read, holds, _SOON_S)

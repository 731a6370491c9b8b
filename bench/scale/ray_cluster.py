"""Workers on a Ray cluster of four nodes on this machine: their distribution, and the effect of a node's death.

The nodes are real raylets that share this machine's two cores, so times are those of an overcommitted machine. Each has
room for two workers, so that the three remaining nodes can take over the fourth's. Under load, the node whose worker
answers loses power. Capacity is back when a new worker of that name lives on another node, and all workers are alive.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.core.figures import Figure, exactly, plain
from bench.core.system import SystemUnderTest, running_at
from bench.load.pace import silence_s
from bench.scale.ray_nodes import RayNodes, ray_nodes
from bench.scale.traffic import LoadResult, load, steady
from infaas.client import InfaasClient
from simulator.trace import QueryKind
from store.placement import list_workers
from store.pool import Pool, open_pool
from zoo.samples import labelled

TASK: Final = "digits"
_NODES: Final = 4
_ROOM: Final = 2
_MEMORY: Final = 2 * 2**30
_UP_S: Final = 90.0
_BACK_S: Final = 90.0
_KIND: Final = QueryKind(task=TASK, latency_ms=20_000.0)
"""Single input, with so high a latency that no query is refused: the figure is whether each query is answered."""
_NEAR_S: Final = 20.0


class _NodeDeath(msgspec.Struct, frozen=True):
    """Time of a node's death, and of the recovery."""

    at_s: float
    """Time of the death, in seconds of the monotonic clock."""
    back_s: float | None
    """Seconds from then until capacity was back; None if it never was."""


async def measure(home: Path, broker: str, *, rate: float = 150.0, seconds: float = 60.0) -> list[Figure]:
    """Measure one run in `home`; the task `digits` is registered there if it is not."""
    hardware = {"maximum": _NODES, "cores": 1, "memory_bytes": _MEMORY, "start_s": 5}
    async with ray_nodes(_NODES, _ROOM) as nodes:
        env = {
            "INFAAS_RAY_ADDRESS": nodes.address,
            "INFAAS_RAY_HARDWARE": msgspec.json.encode({"cpu": hardware}).decode(),
        }
        flags = ("--launcher=ray", f"--workers={_NODES}", "--cores-per-worker=1")
        async with (
            running_at(home, broker, TASK, flags=flags, env=env) as system,
            open_pool(system.postgres, max_size=1) as pool,
        ):
            await _wait_until_alive(pool, _UP_S)
            used = len(set(nodes.workers().values()))
            await _first_answer(system)
            async with asyncio.TaskGroup() as tasks:
                began_s = time.monotonic()
                dying = tasks.create_task(_kill(system, pool, nodes, seconds / 3), name="kill")
                found = await load(system.kafka, steady([_KIND], rate, seconds))
            return _figures(broker, used, found, began_s, dying.result())


async def _first_answer(system: SystemUnderTest) -> None:
    """Wait for a first answer, so that an instance is loaded."""
    inputs, _labels = labelled(TASK)
    async with InfaasClient(kafka=system.kafka) as client:
        await client.infer(TASK, {name: array[:1] for name, array in inputs.items()}, timeout_s=_UP_S)


async def _kill(system: SystemUnderTest, pool: Pool, nodes: RayNodes, after_s: float) -> _NodeDeath:
    await asyncio.sleep(after_s)
    inputs, _labels = labelled(TASK)
    async with InfaasClient(kafka=system.kafka) as client:
        answer = await client.infer(TASK, {name: array[:1] for name, array in inputs.items()}, timeout_s=_UP_S)
    epochs = {row.name: row.epoch for row in await list_workers(pool)}
    at_s = time.monotonic()
    nodes.kill(nodes.workers()[answer.worker])
    try:
        await _wait_until_alive(pool, _BACK_S, answer.worker, epochs[answer.worker])
    except TimeoutError:
        return _NodeDeath(at_s, None)
    return _NodeDeath(at_s, time.monotonic() - at_s)


async def _wait_until_alive(pool: Pool, limit_s: float, victim: str = "", epoch: int = 0) -> None:
    """Wait until one worker per node is alive, the victim in a new epoch."""
    async with asyncio.timeout(limit_s):
        while True:
            alive = {row.name: row.epoch for row in await list_workers(pool) if row.alive}
            if len(alive) >= _NODES and alive.get(victim, 1) > epoch:
                return
            await asyncio.sleep(0.1)


def _figures(broker: str, used: int, found: LoadResult, began_s: float, death: _NodeDeath) -> list[Figure]:
    answered_s = [sample.due_s + sample.total_ms / 1e3 for sample in found.samples if sample.status == "ok"]
    silence = silence_s(answered_s, death.at_s - began_s, _NEAR_S)
    bad = sum(sample.status != "ok" for sample in found.samples)
    doubled = sum(max(sample.shown - 1, 0) for sample in found.samples)

    back = (
        exactly("Ray, workers alive again after a node died", broker, 0, wanted=1)
        if death.back_s is None
        else plain("Ray, capacity back after a node died", broker, death.back_s, "s")
    )
    return [
        exactly(f"Ray, nodes of {_NODES} with one of {_NODES} workers", broker, used, wanted=_NODES),
        exactly("Ray, queries lost or refused, a node killed", broker, bad),
        exactly("Ray, answers shown twice, a node killed", broker, doubled),
        plain("Ray, longest pause in answers, a node killed", broker, silence, "s"),
        back,
    ]

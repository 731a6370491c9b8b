"""Tests of `infaas top` on samples in the database: the page, and the live view on a terminal."""

import asyncio
import json
import os
import pty
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from schemas.answer_times import quantile_s
from schemas.rows.cluster import DecisionRow
from schemas.rows.samples import AnswerTimesSample, InstanceSample, LagReading, LoadSample, WorkerSample
from schemas.status import InstanceState
from store.placement import put_instances, register_worker, report_instance_state
from store.pool import Pool
from store.samples import group_partition_ids, maintain_partitions, write_decisions, write_reading, write_samples
from store.settings import ENV as POSTGRES_ENV
from tests.example_rows import a_worker, an_instance
from tests.processes import environment
from tests.unit.infaas.shell import Shell
from tests.waiting import PATIENCE_S

VARIANT = "mlp.onnx-fp32.cpu"
TASK = "digits"
ON_TERMINAL: Final = """
import fcntl, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from infaas.cli.main import main
main()
"""
"""Runs the command line with the terminal that is its input as its own, which sends Ctrl-C as a signal."""
LEAVES_SCREEN: Final = b"\x1b[?1049l"


def a_load(at: datetime, *, accuracy: float = 0.0, max_costs: float = 0.0, **counts: int) -> LoadSample:
    return LoadSample(
        at=at, task=TASK, target=None, min_accuracy=accuracy, latency_ms=32.0, offline=False, inputs=0, upgraded=0,
        max_costs=max_costs,
        **{"queries": 0, "refused": 0, "capped": 0, "answered": 0, "late": 0, "failed": 0} | counts,
    )  # fmt: skip


async def record_lag(pool: Pool, lag: int) -> None:
    """Record a reading in which the oldest of `lag` queries has waited for ninety seconds."""
    at = datetime.now(UTC)
    [place] = await group_partition_ids(pool, [("infaas.selector", f"infaas.tasks.{TASK}", 0)])
    reading = LagReading(
        at=at, whole=True, group_partitions=[place], end_offsets=[lag], committed=[0], lags=[lag],
        since_s=[at.timestamp() - 90.0], healths=[1],
    )  # fmt: skip
    await write_reading(pool, reading)


def cells_of(shown: str, title: str) -> dict[str, str]:
    """Return the cells of a table with one row, which may be wrapped, by their columns."""
    lines = shown[shown.index(title) :].split("\n\n")[0].splitlines()
    columns, cells = (list(zip(*(one.split(mark) for one in lines if mark in one), strict=True)) for mark in "┃│")
    columns, cells = ([" ".join(" ".join(parts).split()) for parts in found] for found in (columns, cells))
    return dict(zip(columns, cells, strict=True))


class Terminal(NamedTuple):
    """Process on a terminal of its own, with the terminal's other end."""

    process: asyncio.subprocess.Process
    master: int
    screen: asyncio.StreamReader


@asynccontextmanager
async def on_terminal(*words: str, **variables: str) -> AsyncGenerator[Terminal]:
    """Run a command on a terminal of 50 lines and 200 columns while the context is open."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 200))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ON_TERMINAL, *words), env=environment({"TERM": "xterm", **variables}),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    screen = asyncio.StreamReader(limit=1 << 24)
    with os.fdopen(master, "rb", buffering=0) as file:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(screen), file
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield Terminal(process, master, screen)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            transport.close()
            os.close(slave)  # only now: without a process that has it open, its output is lost


async def test_top_adds_up_the_last_seconds(registered: Shell, store_pool: Pool) -> None:
    now = datetime.now(UTC)
    await maintain_partitions(store_pool, now, 7200, 86400)
    await register_worker(store_pool, a_worker("cpu-0"))
    await put_instances(store_pool, [an_instance(VARIANT, "cpu-0", (0,))])
    await report_instance_state(store_pool, "cpu-0", VARIANT, InstanceState.ACTIVE)
    loads = [
        a_load(now - timedelta(minutes=5), queries=7000, refused=7000),
        a_load(now - timedelta(seconds=2), accuracy=0.5, queries=60, refused=10, answered=45, late=5),
        a_load(now, max_costs=0.02, queries=60, capped=10, answered=45, failed=2),
    ]
    await write_samples(store_pool, loads)
    times = AnswerTimesSample(at=now, task=TASK, buckets=[24, 40], counts=[80, 10])
    await write_samples(store_pool, [times])
    served = InstanceSample(
        at=now, variant=VARIANT, worker="cpu-0", state=InstanceState.ACTIVE, queued=0, batch_size=1.0, batch_s=0.001,
        slowdown=1.0, answered=90, inputs=90, late=5, expired=0,
    )  # fmt: skip
    await write_samples(store_pool, [served])
    busy = WorkerSample(
        at=now, worker="cpu-0", hardware="cpu", slots=2, utilisation=0.25, memory_used=3 << 20, memory_total=4 << 30,
        cpus=2.0, cpu_busy=0.75,
    )  # fmt: skip
    await write_samples(store_pool, [busy])
    await write_decisions(
        store_pool, [DecisionRow(at=now, action="place", variant=VARIANT, worker="cpu-0", reason="load")]
    )

    found = json.loads((await asyncio.to_thread(registered, "top", "--json")).stdout)
    [task] = found["tasks"]
    assert (task["task"], task["queries_per_s"], task["refused"], task["late"], task["failed"]) == (TASK, 2.0, 10, 5, 2)
    assert task["offline_per_s"] == 0.0
    assert task["attainment"] == 1 - 17 / 100
    assert (task["wanted_accuracy"], task["wanted_cost"]) == (0.5, 0.002), "of the queries that state one"
    assert (task["p50_s"], task["p99_s"]) == (quantile_s({24: 1}, 1.0), quantile_s({40: 1}, 1.0))
    assert [one["variant"] for one in task["variants"]] == [VARIANT]
    assert task["given_accuracy"] == task["variants"][0]["accuracy"]
    [worker] = found["workers"]
    assert (worker["state"], worker["busy"], worker["cpu_busy"], worker["loaded"]) == ("alive", 0.25, 0.75, [VARIANT])
    assert [one["reason"] for one in found["decisions"]] == ["load"]

    shown = (await asyncio.to_thread(registered, "top", "--seconds=3600")).stdout
    of_task, of_worker = cells_of(shown, "Tasks"), cells_of(shown, "Workers")
    assert {"task": TASK, "refused": "7,010", "p50": "7.66 ms", "p99": "30.6 ms"}.items() <= of_task.items()
    assert of_task["answered by"] == f"{VARIANT} 100%"
    assert {"worker": "cpu-0", "hardware": "cpu", "busy": "25.0%", "CPU": "75.0%"}.items() <= of_worker.items()
    assert cells_of(shown, "Last decisions")["reason"] == "load"


async def test_top_of_an_idle_system_is_empty(registered: Shell) -> None:
    found = json.loads((await asyncio.to_thread(registered, "top", "--json")).stdout)
    assert (found["tasks"], found["workers"], found["decisions"]) == ([], [], [])
    assert "no worker is alive" in found["problems"]


async def test_top_shows_queries_that_only_wait(registered: Shell, store_pool: Pool) -> None:
    await maintain_partitions(store_pool, datetime.now(UTC), 7200, 86400)
    await record_lag(store_pool, 4321)
    await register_worker(store_pool, a_worker("cpu-0", hardware="cuda"))
    [task] = json.loads((await asyncio.to_thread(registered, "top", "--json")).stdout)["tasks"]
    assert (task["task"], task["waiting"], task["waiting_s"]) == (TASK, 4321, pytest.approx(90.0, abs=0.1))
    shown = (await asyncio.to_thread(registered, "top")).stdout
    of_task = cells_of(shown, "Tasks")
    assert (of_task["task"], of_task["waiting"], of_task["oldest"]) == (TASK, "4,321", "1 min 30 s")
    assert cells_of(shown, "Workers")["hardware"] == "cuda"


async def test_top_refreshes_itself_on_a_terminal(
    registered: Shell, store_pool: Pool, database: str, tmp_path: Path
) -> None:
    del registered
    await maintain_partitions(store_pool, datetime.now(UTC), 7200, 86400)
    await record_lag(store_pool, 4321)
    async with on_terminal("top", INFAAS_HOME=str(tmp_path), **{POSTGRES_ENV: database}) as terminal:
        await terminal.screen.readuntil(b"4,321")
        await record_lag(store_pool, 8642)
        await terminal.screen.readuntil(b"8,642")
        os.write(terminal.master, b"\x03")
        await terminal.screen.readuntil(LEAVES_SCREEN)
        assert await terminal.process.wait() == 130

"""Batch job over a file of images: its rate against a bare loop, memory, recovery, and effect on online load.

    python -m bench.batch --rows 1000000    # prints, and writes the tables; half an hour on two cores

The bare loop reads the same file in the same pieces, computes them with the same model file in one session, and appends
the outputs to a file. It uses the number of threads and the batch size that are fastest for it on this machine. The job
runs from the command line, once undisturbed and once with `KILLS` kills by SIGKILL; both outputs are compared byte by
byte. Online load: an open loop of small queries of another task runs alternately alone and during the job.
"""

import argparse
import asyncio
import filecmp
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import numpy as np
import psutil
from rich.console import Console

from bench.core.figures import Figure, at_least, at_most, exactly, plain
from bench.core.rounds import take_rounds
from bench.core.system import SystemUnderTest, running_system
from bench.latency.end_to_end import check_answered, totals_ms
from bench.load.kafka_load import AnsweredQuery, ClientLoad
from bench.load.pace import small_query
from bench.results import origin, publish
from infaas.batch.file_sink import read_checkpoint
from infaas.batch.formats import open_source
from infaas.client import InfaasClient
from registry.artifacts import ArtifactStore
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions, Session
from schemas.catalog import Catalog
from schemas.latency import LatencyModel
from schemas.query import Mode
from schemas.rows.catalog import Task, Variant
from schemas.topics import task_topic
from store.catalog import load_catalog
from store.pool import open_pool
from zoo.samples import labelled

TASK: Final = "mnist"
ONLINE_TASK: Final = "digits"
ROWS: Final = 1_000_000
MIN_ACCURACY: Final = 0.985
KILLS: Final = 5
RATE_LIMIT: Final = 0.7
P99_LIMIT: Final = 1.5
ONLINE_RATE: Final = 200.0
_BROKER: Final = "apache"
_ROUND_S: Final = 10.0
_BARE_ROWS: Final = 50_000
"""Most rows of the bare loop; its rate does not change over time."""
_TRIAL_ROWS: Final = 4_096
_BATCHES: Final = (16, 64, 256)
_PIECE: Final = 1024
_LOOK_S: Final = 0.05
_JOB_S: Final = 3600.0


async def measure(system: SystemUnderTest, console: Console, rows: int) -> list[Figure]:
    """Measure all figures; the system must be up, with both tasks registered."""
    folder = system.home / "bench-batch"
    folder.mkdir()
    images = folder / "images.npz"
    await asyncio.to_thread(_write_images, images, rows)
    whole, killed = _Job(system, images, folder / "whole.npz"), _Job(system, images, folder / "killed.npz")
    console.log(f"{rows:,} rows, undisturbed")
    done = await whole.run()
    console.log(f"killed {KILLS} times")
    await killed.run_killed(rows, KILLS)
    target = killed.target
    console.log(f"{target}: the bare loop")
    bare = await _bare_rate(system, target, images)
    same = await asyncio.to_thread(filecmp.cmp, whole.output, killed.output, shallow=False)
    label = f"batch job of {rows:,} rows of {TASK}"
    grown = f"{label}, memory from a tenth of the job to the end"
    return [
        at_least(label, _BROKER, done["answered"] / done["seconds"], "rows/s", bare, RATE_LIMIT),
        plain(f"{label}, memory of its process, peak", _BROKER, max(whole.memory_mib), "MiB"),
        plain(grown, _BROKER, whole.growth_mib(), "MiB more"),
        exactly(f"{label}, killed {KILLS} times: outputs that differ", _BROKER, 0.0 if same else 1.0),
        await _beside(system, console, images, target),
    ]


class _Job:
    """One `infaas batch`, over several runs that may be killed."""

    def __init__(self, system: SystemUnderTest, images: Path, output: Path) -> None:
        self._system = system
        self._images = images
        self.output = output
        self.memory_mib: list[float] = []
        """Resident memory of its process, sampled twenty times a second."""
        self.target = ""
        """Variant that computes it, known after the first commit."""

    async def start(self) -> asyncio.subprocess.Process:
        """Start or resume it."""
        words = ("batch", str(self._images), str(self.output), "--task", TASK, "--min-accuracy", str(MIN_ACCURACY))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infaas.cli.main", *words, "--json"),
            env={**os.environ, "INFAAS_HOME": str(self._system.home)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def run(self) -> dict[str, Any]:
        """Run it to its end. Returns the report that it prints."""
        process = await self.start()
        async with asyncio.timeout(_JOB_S), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(process.pid))
            output, _ = await process.communicate()
            watching.cancel()
        if process.returncode:
            raise RuntimeError(f"`infaas batch` failed with exit code {process.returncode}")
        return msgspec.json.decode(output)

    async def run_killed(self, rows: int, kills: int) -> None:
        """Run it to its end with `kills` kills, each after a further share of the rows is committed."""
        for number in range(1, kills + 1):
            process = await self.start()
            await self.committed(rows * number // (kills + 1))
            await _kill(process)
        await self.run()

    async def committed(self, rows: int) -> None:
        """Wait until more than `rows` rows are committed."""
        async with asyncio.timeout(_JOB_S):
            while await self.rows() <= rows:  # noqa: ASYNC110 - the job is another process
                await asyncio.sleep(_LOOK_S)

    async def rows(self) -> int:
        """Return the number of committed rows."""
        folder = self.output.with_name(f"{self.output.name}.job")
        found = await asyncio.to_thread(read_checkpoint, folder)
        if found is None:
            return 0
        self.target = found.terms.target or self.target
        return found.progress.rows

    def growth_mib(self) -> float:
        """Return the largest growth of memory after the first tenth of the samples."""
        tenth = len(self.memory_mib) // 10
        return max(self.memory_mib[tenth:]) - self.memory_mib[tenth]

    async def _watch(self, pid: int) -> None:
        process = psutil.Process(pid)
        while True:
            self.memory_mib.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(_LOOK_S)


async def _kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError("the job ended before it could be killed; give it more rows")


def _write_images(file: Path, rows: int) -> None:
    """Write the zoo's images repeatedly to an .npz, without holding it in memory."""
    images = np.ascontiguousarray(labelled(TASK)[0]["input"])
    header = {"descr": images.dtype.str, "fortran_order": False, "shape": (rows, *images.shape[1:])}
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        archive.open("input.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_2_0(member, header)
        for start in range(0, rows, len(images)):
            member.write(images[: min(len(images), rows - start)].tobytes())


async def _catalog(system: SystemUnderTest) -> Catalog:
    async with open_pool(system.postgres, max_size=1) as pool:
        return await load_catalog(pool)


# -- the bare loop -----------------------------------------------------------------------------------------------------
async def _bare_rate(system: SystemUnderTest, target: str, images: Path) -> float:
    """Return the rows per second of the bare loop with its best settings."""
    catalog = await _catalog(system)
    variant, task = catalog.variants[target], catalog.tasks[TASK]
    artifact = await asyncio.to_thread(ArtifactStore(system.home / "artifacts").path, variant.artifact)
    return await asyncio.to_thread(_best_rate, variant, task, artifact, images)


def _best_rate(variant: Variant, task: Task, artifact: Path, images: Path) -> float:
    trials: dict[tuple[int, int], float] = {}
    for threads in {1, os.cpu_count() or 1}:
        for batch in _BATCHES:
            trials[threads, batch] = _loop(
                _session(variant, artifact, threads, batch), task, images, batch, _TRIAL_ROWS
            )
    threads, batch = max(trials, key=lambda way: trials[way])
    return _loop(_session(variant, artifact, threads, batch), task, images, batch, _BARE_ROWS)


def _session(variant: Variant, artifact: Path, threads: int, batch: int) -> Session:
    options = LoadOptions(precision=variant.precision, threads=threads, max_batch=batch)
    return find_runtime(variant.runtime).load(artifact, "cpu", options)


def _loop(session: Session, task: Task, images: Path, batch: int, most: int) -> float:
    """Read, compute and write. Returns the rows per second."""
    rows, began = 0, time.perf_counter()
    with images.with_name("bare.bin").open("wb") as file:
        for inputs in _batches(task, images, batch):
            for array in session.infer(inputs).values():
                file.write(np.ascontiguousarray(array).tobytes())
            rows += batch
            if rows >= most:
                break
    return rows / (time.perf_counter() - began)


def _batches(task: Task, images: Path, batch: int) -> Iterator[dict[str, Any]]:
    for chunk in open_source(images, task.inputs).read({}, _PIECE):
        (found,) = chunk.rows
        for start in range(0, len(found) - batch + 1, batch):
            yield {name: array[start : start + batch] for name, array in found.inputs.items()}


# -- online load during the job ----------------------------------------------------------------------------------------
async def _beside(system: SystemUnderTest, console: Console, images: Path, target: str) -> Figure:
    """Return the p99 latency of online queries during the job, over the one without it."""
    value, headers = small_query()
    job = _Job(system, images, images.with_name("beside.npz"))
    committed = 0
    async with (
        ClientLoad(system.kafka, task_topic(ONLINE_TASK), value, headers) as load,
        InfaasClient(kafka=system.kafka) as client,
    ):
        await load.run(ONLINE_RATE, 3.0)

        async def take(number: int) -> tuple[list[AnsweredQuery], list[AnsweredQuery]]:
            nonlocal committed
            console.log(f"online load, alone and beside the job: round {number + 1}")
            alone = await load.run(ONLINE_RATE, _ROUND_S)
            process = await job.start()
            await job.committed(committed)
            beside = await load.run(ONLINE_RATE, _ROUND_S)
            await _kill(process)
            committed = await job.rows()
            await _drained(client)
            return beside, alone

        rounds = await take_rounds(take)
    check_answered(answers for both in rounds.taken for answers in both)
    beside_ms, alone_ms = (totals_ms(side, 0.99) for side in zip(*rounds.taken, strict=True))
    batch_ms = await _batch_ms(system, target)
    name = f"online at {ONLINE_RATE:g}/s beside a batch job, p99"
    figure = at_most(name, _BROKER, beside_ms, "ms", alone_ms, P99_LIMIT + batch_ms / median(alone_ms))
    (figure,) = rounds.of([figure])
    return msgspec.structs.replace(figure, target=f"<= {P99_LIMIT:g}x and a batch of {batch_ms:.2g} ms")


async def _drained(client: InfaasClient) -> None:
    """Wait until the queries that the job left in the topics are computed, by sending queries that wait behind them."""
    row = {name: values[:1] for name, values in labelled(TASK)[0].items()}
    async with asyncio.TaskGroup() as tasks:
        for _ in range(64):
            tasks.create_task(client.infer(TASK, row, mode=Mode.OFFLINE, timeout_s=300.0))


async def _batch_ms(system: SystemUnderTest, target: str) -> float:
    catalog = await _catalog(system)
    variant = catalog.variants[target]
    return LatencyModel(catalog.profiles[target].latency, variant.max_batch).batch_s(variant.max_batch) * 1e3


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    wanted, console, begin = parser.parse_args(), Console(), origin()
    publish(console, asyncio.run(_measure_all(console, wanted.rows)), begin)


async def _measure_all(console: Console, rows: int) -> list[Figure]:
    async with running_system(_BROKER, TASK, ONLINE_TASK) as system:
        return await measure(system, console, rows)


if __name__ == "__main__":
    main()

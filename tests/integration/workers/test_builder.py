"""Tests of registration steps that run on workers of their hardware; the CUDA device is a stand-in."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from msgspec.structs import replace

from broker.kafka.topics import ensure_topics
from broker.kafka.types import TopicPartition
from broker.producing.producer import Producer
from broker.topic_logs import delete_before, topic_ends
from process.sandbox import MODE_ENV
from registry.artifact_settings import open_artifacts, open_exchange
from registry.builds.build import BuildOutcome, BuildRequest
from registry.builds.remote_steps import NoWorker, RemoteSteps, build_topics, remote_steps
from registry.composites.cascades import register_cascade
from registry.pipeline.isolation import ENV
from registry.pipeline.measurement import Measurement, MeasureVariant
from registry.plan import PlannedVariant, PlanVariants
from registry.register import register
from registry.request import CascadeRequest, Registration
from registry.samples import save_arrays
from registry.step_runner import LOCAL
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.hardware import Hardware
from schemas.rows.catalog import Variant, VariantState
from schemas.rows.registrations import BuildRow
from schemas.topics import build_topic
from store.builds import get_build
from store.pool import Pool
from store.registry import list_profiles, put_architecture, put_variant
from tests.example_rows import a_profile, a_variant, an_architecture
from tests.integration.workers.conftest import Site
from tests.model_files import WEIGHTS, Quiet, make_model, make_samples
from tests.waiting import read_until, until

__all__ = ["make_model", "make_samples"]

STAND_IN = Path(__file__).parents[2] / "stand_in_cuda"
ROOT = STAND_IN.parents[1]


@pytest.fixture
def request_of(make_model: Callable[..., Path], make_samples: Callable[..., Path]) -> Callable[[], Registration]:
    def make() -> Registration:
        return Registration(
            architecture="linear", task="kind", file=make_model(), validation=make_samples(count=40), max_batch=2,
            partitions=1, hardware=Hardware.CUDA,
        )  # fmt: skip

    return make


@pytest.fixture(autouse=True)
async def no_older_requests(site: Site) -> None:
    """Delete earlier build requests: all tests of a session share the Kafka and this topic."""
    topic = build_topic(Hardware.CUDA)
    await ensure_topics(site.kafka, build_topics(Hardware.CUDA))
    ends = await read_until(lambda: topic_ends(site.kafka, [topic]), lambda found: topic in found)
    await delete_before(site.kafka, {TopicPartition(topic, 0): ends[topic]})


async def ask_what_no_row_can_hold(site: Site) -> None:
    """Write build requests that no row can hold; the last one is valid except for a NUL character."""
    nested = b"[" * 5000 + b"]" * 5000
    odd = [b'{"id": "deep", "asked_ms": 1, "build": {"step": %b}}' % nested]
    odd += [b'{"id": "late", "asked_ms": %d, "build": {}}' % 10**30]
    odd += [
        msgspec.json.encode(BuildRequest(id=name, build={"step": "\0"}, asked_ms=1))
        for name in ("\0", os.urandom(8000).hex(), "zero")
    ]
    async with Producer(site.kafka, "test") as producer:
        for value in odd:
            await producer.send_and_wait(build_topic(Hardware.CUDA), value)


@contextmanager
def gpu_worker(site: Site, name: str, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a worker process with a stand-in GPU."""
    path = os.pathsep.join(map(str, (STAND_IN, ROOT)))
    # Without a sandbox, because the stand-in and the test exchange files outside of it.
    told = {ENV: "STAND_IN_*", "PYTHONPATH": path, MODE_ENV: "off", **environment}
    process = site.spawn(name, INFAAS_WORKERS_HARDWARE="cuda", **told)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@asynccontextmanager
async def steps_of(site: Site, *, again: bool = False, wait: bool = True) -> AsyncGenerator[RemoteSteps]:
    """Open remote steps as `infaas register` does."""
    stores = open_artifacts("", site.home), open_exchange("", site.home)
    async with remote_steps(site.pool, site.kafka, *stores, again=again, wait=wait) as runner:
        yield runner


async def registered(site: Site, request: Registration, progress: Quiet | None = None) -> dict[str, VariantState]:
    """Register on workers; return the state of each variant."""
    async with steps_of(site) as runner:
        artifacts = open_artifacts("", site.home)
        made: list[Variant] = await register(request, site.pool, site.kafka, artifacts, progress or Quiet(), runner)
    return {variant.name: variant.state for variant in made}


async def builds_of(pool: Pool) -> list[BuildRow]:
    """Return all builds except plans."""
    query = "SELECT id, hardware, step, asked_ms, attempts, worker, reason, outcome FROM builds ORDER BY created_at, id"
    rows = await pool.fetch(BuildRow, query)
    return [row for row in rows if row.step and row.step["step"]["type"] != "PlanVariants"]


async def _listed(folder: Path) -> list[Path]:
    return await asyncio.to_thread(lambda: list(folder.iterdir()))


async def begun(folder: Path, count: int = 1) -> list[psutil.Process]:
    """Wait until `count` held steps have begun; return their processes."""
    found = await read_until(lambda: _listed(folder), lambda files: len(files) >= count)
    return [psutil.Process(int(path.name)) for path in found]


async def cascaded(site: Site, guess: Path, validation: Path) -> list[BuildRow]:
    """Register a cascade of a guessing model and the registered one, on workers; return its builds."""
    before, artifacts = {row.id for row in await builds_of(site.pool)}, open_artifacts("", site.home)
    first = replace(a_variant("guess.onnx-fp32.cuda", "kind"), artifact=artifacts.put(guess), max_batch=2)
    await put_architecture(site.pool, an_architecture("guess", "kind"))
    await put_variant(site.pool, first, a_profile(first.name, accuracy=0.1))
    request = CascadeRequest(
        task="kind", first=first.name, then="linear.onnx-fp32.cuda", validation=validation, thresholds=(0.8,)
    )
    async with steps_of(site) as runner:
        await register_cascade(request, site.pool, site.kafka, artifacts, Quiet(), runner)
    return [row for row in await builds_of(site.pool) if row.id not in before]


@pytest.mark.needs_minutes
async def test_cuda_variants_and_cascades_are_built_on_workers(
    site: Site,
    request_of: Callable[[], Registration],
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
) -> None:
    request, progress = request_of(), Quiet()
    guess, rows = make_model("guess.onnx", weights=-WEIGHTS), make_samples("rows.npz", count=400)
    await ask_what_no_row_can_hold(site)
    with pytest.raises(OperatorError, match="no CUDA driver"):
        await LOCAL.run(PlanVariants(request, "onnx"), tuple[PlannedVariant, ...], print)
    async with steps_of(site, wait=False) as runner:
        with pytest.raises(NoWorker, match="there is no worker of cuda"):
            await runner.run(PlanVariants(request, "onnx"), tuple[PlannedVariant, ...], print)

    async with asyncio.TaskGroup() as tasks:
        making = tasks.create_task(registered(site, request, progress))
        await until(lambda: any("until there is a worker of cuda" in text for _, _, text in progress.steps))
        with gpu_worker(site, "cuda-0"):
            states = await making
            assert [(row.worker, row.attempts) for row in await builds_of(site.pool)] == [("cuda-0", 1)] * 3
            of_cascade = await cascaded(site, guess, rows)
    refused = await get_build(site.pool, "zero")
    assert refused is not None
    with pytest.raises(InvalidRequest, match=r"(?s)contains a name that Postgres cannot store: rename it .*u0000"):
        msgspec.convert(refused.outcome, BuildOutcome).result(str, refused.worker)
    assert [row.step["step"]["type"] for row in of_cascade] == ["ComputeOutputs", "ComputeOutputs", "MeasureVariant"]
    ready = dict.fromkeys(("linear.onnx-fp16.cuda", "linear.onnx-fp32.cuda"), VariantState.READY)
    assert states == ready
    measured = {profile.variant: profile.device for profile in await list_profiles(site.pool)}
    assert set(measured.values()) == {"stand-in GPU", a_profile().device}, "but for the one that is only written down"
    assert measured["guess-or-linear.onnx-fp32-onnx-fp32-t800.cuda"] == "stand-in GPU"
    assert any("measuring, by cuda-0" in text for _, _, text in progress.steps)


@pytest.mark.needs_minutes
async def test_build_of_killed_worker_moves_to_another(
    site: Site, request_of: Callable[[], Registration], tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    async with asyncio.TaskGroup() as tasks:
        with gpu_worker(site, "cuda-0", STAND_IN_HOLDS=str(held)) as first:
            making = tasks.create_task(registered(site, request_of()))
            [step] = await begun(held)
            first.send_signal(signal.SIGKILL)
        await until(lambda: not step.is_running())
        with gpu_worker(site, "cuda-1"):
            assert set((await making).values()) == {VariantState.READY}
    [cut_off, *others] = await builds_of(site.pool)
    assert (cut_off.worker, cut_off.attempts) == ("cuda-1", 2)
    assert {row.attempts for row in others} == {1}


async def test_build_fails_after_three_attempts(site: Site, request_of: Callable[[], Registration]) -> None:
    with gpu_worker(site, "cuda-0", STAND_IN_DIES="yes") as worker:
        with pytest.raises(InvalidRequest, match=r"given up after 3 attempts: it was killed \(SIGKILL\)"):
            await registered(site, request_of())
        async with steps_of(site) as runner, asyncio.timeout(200):
            plan = PlanVariants(request_of(), "of a later version")  # a format that this version does not know
            with pytest.raises(ModelFailed, match=r"given up after 3 attempts: .*KeyError\('of a later version'\)"):
                await runner.run(plan, tuple[PlannedVariant, ...], _unseen)
        assert worker.poll() is None


async def test_two_workers_share_builds_and_reuse_results(
    site: Site, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    held, samples = tmp_path / "held", tmp_path / "samples.npz"
    held.mkdir()
    save_arrays(samples, {"x": np.zeros((8, 4), np.float32)})
    artifacts = open_artifacts("", site.home)
    model = artifacts.path(artifacts.put(make_model()))

    def measure(max_batch: int) -> MeasureVariant:
        options = LoadOptions(precision="fp32", max_batch=max_batch)
        return MeasureVariant(model, "onnx", "cuda", options, samples, tmp_path / f"outputs-{max_batch}")

    async def ask(batches: Sequence[int]) -> list[Measurement]:
        async with steps_of(site) as runner, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(runner.run(measure(size), Measurement, said[size].append)) for size in batches]
        return [task.result() for task in asked]

    said: dict[int, list[str]] = {1: [], 2: [], 3: []}
    first = asyncio.ensure_future(ask((1, 2, 3)))
    await until(lambda: all(said.values()))  # each build waits for a worker
    await asyncio.to_thread(open_exchange("", site.home).discard_older, 0.0)  # as after a wait of a day
    # No worker dies, so none needs to take over builds soon.
    told = {"STAND_IN_HOLDS": str(held), "INFAAS_WORKERS_LEASE_TTL_S": "60"}
    with gpu_worker(site, "cuda-0", **told), gpu_worker(site, "cuda-1", **told):
        await begun(held, 2)  # both workers have begun
        first.cancel()  # Ctrl-C
        await asyncio.wait({first})
        (held / "go").touch()
        await read_until(lambda: builds_of(site.pool), lambda rows: sum(r.outcome is not None for r in rows) == 3)
        measured = await ask((1, 2, 3))
    assert [len(one.latency) for one in measured] == [1, 2, 3]
    for size in (1, 2, 3):
        (tmp_path / f"outputs-{size}").unlink()
    assert await ask((1, 2, 3)) == measured, "what was fetched once is there for who goes on, without any worker"
    assert all((tmp_path / f"outputs-{size}").exists() for size in (1, 2, 3))
    rows = await builds_of(site.pool)
    assert {row.worker for row in rows} == {"cuda-0", "cuda-1"}
    assert [row.attempts for row in rows] == [1, 1, 1]


def _unseen(_text: str) -> None:
    """Discard a progress text."""

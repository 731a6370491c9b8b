"""Valid rows of the catalog and the placement for tests."""

from datetime import UTC, datetime

from schemas.latency import BatchLatency
from schemas.rows.catalog import AccuracySource, Architecture, Profile, Task, TensorSpec, Variant, VariantState
from schemas.rows.cluster import InstanceRow, WorkerRow
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from tests.waiting import read_until

SHA = "ab" * 32
INPUT = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
OUTPUT = TensorSpec(name="y", datatype="FP32", shape=(-1, 2))


def a_task(name: str = "digits", partitions: int = 4) -> Task:
    return Task(name=name, inputs=(INPUT,), outputs=(OUTPUT,), partitions=partitions)


def an_architecture(name: str = "mlp", task: str = "digits") -> Architecture:
    return Architecture(name=name, task=task, source=SHA, source_format="onnx")


def a_variant(
    name: str = "mlp.onnx-fp32.cpu",
    task: str = "digits",
    state: VariantState = VariantState.READY,
    runtime: str = "onnx",
    partitions: int = 4,
) -> Variant:
    architecture, _, hardware = name.split(".")
    return Variant(
        name=name,
        architecture=architecture,
        task=task,
        runtime=runtime,
        precision="fp32",
        hardware=hardware,
        max_batch=32,
        artifact=SHA,
        state=state,
        partitions=partitions,
    )


def a_profile(
    variant: str = "mlp.onnx-fp32.cpu", accuracy: float = 0.9, batch_s: float = 0.001, memory_bytes: int = 1_000_000
) -> Profile:
    return Profile(
        variant=variant,
        device="test cpu",
        threads=1,
        load_s=0.1,
        memory_bytes=memory_bytes,
        accuracy=accuracy,
        accuracy_source=AccuracySource.MEASURED,
        samples=100,
        latency=(
            BatchLatency(batch=1, p50_s=batch_s, p99_s=2 * batch_s),
            BatchLatency(batch=32, p50_s=16 * batch_s, p99_s=32 * batch_s),
        ),
        intercept_s=batch_s / 2,
        slope_s=batch_s / 2,
        fit_error=0.0,
    )


def a_worker(
    name: str = "cpu-0",
    hardware: str = "cpu",
    slots: int = 2,
    memory_bytes: int = 10**9,
    runtimes: tuple[str, ...] = ("onnx",),
    alive: bool = True,
) -> WorkerRow:
    return WorkerRow(
        name=name,
        hardware=hardware,
        device="test cpu",
        host="localhost",
        slots=slots,
        threads=1,
        memory_bytes=memory_bytes,
        price_per_hour=0.048 * slots,
        runtimes=runtimes,
        epoch=0,
        heartbeat_at=datetime.now(UTC),
        alive=alive,
    )


def an_instance(
    variant: str = "mlp.onnx-fp32.cpu", worker: str = "cpu-0", partitions: tuple[int, ...] = (0, 1, 2, 3)
) -> InstanceRow:
    return InstanceRow(variant=variant, worker=worker, partitions=partitions, max_batch=32, reason="for a test")


async def register(pool: Pool, *variants: str, task: str = "digits") -> None:
    """Register a task and ready variants of it."""
    await put_task(pool, a_task(task))
    for architecture in dict.fromkeys(name.split(".")[0] for name in variants):
        await put_architecture(pool, an_architecture(architecture, task))
    for name in variants:
        await put_variant(pool, a_variant(name, task), a_profile(name))


async def until_led_by(pool: Pool, count: int) -> None:
    """Wait until `count` autoscalers lead or stand by."""
    sessions = "pg_stat_activity WHERE application_name = 'infaas-leader' AND datname = current_database()"
    await read_until(lambda: pool.fetch_value(int, f"SELECT count(*) FROM {sessions}"), lambda found: found == count)

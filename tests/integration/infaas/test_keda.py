"""Tests of the queries of KEDA's triggers on a real Postgres."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from schemas.rows.catalog import VariantState
from schemas.rows.samples import LagReading, WorkerSample
from schemas.topics import variant_group, variant_topic
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from store.samples import group_partition_ids, maintain_partitions, write_reading, write_samples
from tests.example_rows import a_task, a_variant, an_architecture

MANIFEST = Path(__file__).parents[3] / "docker/k8s/keda/workers.yaml"


async def test_keda_lag_query_is_null_if_lag_is_unknown(store_pool: Pool) -> None:
    query = _keda_query(0)
    names = ("mlp.onnx-fp32.cpu", "mlp.onnx-int8.cpu", "mlp.onnx-fp32.cuda")
    await put_task(store_pool, a_task())
    await put_architecture(store_pool, an_architecture())
    for name in names:
        await put_variant(store_pool, a_variant(name, state=VariantState.GENERATED))
    now = datetime.now(UTC)
    await maintain_partitions(store_pool, now, 3600, 86400)

    async def waiting(age_s: float, *lags: int) -> None:
        at = now - timedelta(seconds=age_s)
        ids = await group_partition_ids(store_pool, [(variant_group(name), variant_topic(name), 0) for name in names])
        await write_reading(store_pool, _reading(at, ids, lags))

    await waiting(50, 90, 90, 90)
    assert await store_pool.fetch_value(float, query) is None
    await waiting(9, 70, 70, 70)
    await waiting(2, 4, 5, 60)
    assert await store_pool.fetch_value(float, query) == 9
    await waiting(1, 4, -1, 60)
    assert await store_pool.fetch_value(float, query) is None


async def test_keda_utilisation_query_is_null_without_recent_samples(store_pool: Pool) -> None:
    query, now = _keda_query(1), datetime.now(UTC)
    await maintain_partitions(store_pool, now, 3600, 86400)

    async def busy(age_s: float, *utilisations: float) -> None:
        at = now - timedelta(seconds=age_s)
        rows = [(f"cpu-{number}", "cpu", share) for number, share in enumerate(utilisations)]
        await write_samples(store_pool, [_busy(at, *row) for row in [*rows, ("cuda-0", "cuda", 0.9)]])

    await busy(20, 0.9, 0.9, 0.9)
    assert await store_pool.fetch_value(float, query) is None
    await busy(2, 1.0, 0.5, 0.6)  # in sum 2.1 busy workers, after 2.7
    assert await store_pool.fetch_value(float, query) == pytest.approx(2.4)


def _keda_query(trigger: int) -> str:
    documents = yaml.safe_load_all(MANIFEST.read_text())
    scaled = next(one for one in documents if one["kind"] == "ScaledObject")
    return scaled["spec"]["triggers"][trigger]["metadata"]["query"]


def _busy(at: datetime, worker: str, hardware: str, utilisation: float) -> WorkerSample:
    return WorkerSample(
        at=at,
        worker=worker,
        hardware=hardware,
        slots=1,
        utilisation=utilisation,
        cpus=4.0,
        cpu_busy=0.5,
        memory_used=1,
        memory_total=2,
    )


def _reading(at: datetime, ids: list[int], lags: tuple[int, ...]) -> LagReading:
    return LagReading(
        at=at, whole=True, group_partitions=ids, end_offsets=[100 for _ in ids], committed=[100 - lag for lag in lags],
        lags=list(lags), since_s=[at.timestamp() - 1.0 for _ in ids], healths=[1 for _ in ids],
    )  # fmt: skip

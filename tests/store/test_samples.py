"""Samples come back as written, unknown stays unknown, and old ones are forgotten."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.records import ArrivalSample, DecisionKind, DecisionRow, InstanceSample, LagSample
from schemas.status import InstanceState
from store import samples
from store.leader import Leadership
from store.placement import change_placement, list_instances, register_worker
from store.pool import Pool
from tests.store_rows import a_worker, an_instance, register

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lag_at(at: datetime, partition: int, lag: int | None) -> LagSample:
    return LagSample(
        at=at,
        consumer_group="infaas.selector",
        topic="infaas.tasks.digits",
        partition=partition,
        end_offset=10,
        committed=None if lag is None else 10 - lag,
        lag=lag,
        lag_s=None if lag is None else lag / 2,
    )


async def test_the_latest_reading_is_found_and_unknown_is_not_zero(store_pool: Pool) -> None:
    assert await samples.latest_lag(store_pool) == []
    await samples.write_lag(store_pool, [lag_at(NOW - timedelta(seconds=1), 0, 5)])
    latest = [lag_at(NOW, 0, None), lag_at(NOW, 1, 3)]
    await samples.write_lag(store_pool, latest)
    assert await samples.latest_lag(store_pool) == latest
    assert len(await samples.lag_since(store_pool, NOW - timedelta(seconds=1))) == 3


async def test_the_other_samples_come_back(store_pool: Pool) -> None:
    arrival = ArrivalSample(at=NOW, task="digits", arrivals=7)
    instance = InstanceSample(
        at=NOW,
        variant="mlp.onnx-fp32.cpu",
        worker="cpu-0",
        state=InstanceState.OVERLOADED,
        queued=3,
        batch_size=2.5,
        slowdown=1.25,
        answered=9,
    )
    await samples.write_arrivals(store_pool, [arrival])
    await samples.write_instances(store_pool, [instance])
    assert await samples.arrivals_since(store_pool, NOW) == [arrival]
    assert await samples.instances_since(store_pool, NOW) == [instance]


async def test_pruning_keeps_the_recent(store_pool: Pool) -> None:
    old = NOW - timedelta(hours=1)
    await samples.write_lag(store_pool, [lag_at(old, 0, 1), lag_at(NOW, 0, 2)])
    await samples.write_arrivals(store_pool, [ArrivalSample(at=old, task="digits", arrivals=1)])
    await samples.write_decisions(store_pool, [_decision(old), _decision(NOW)])
    assert await samples.prune(store_pool, NOW) == 2
    assert await samples.prune_decisions(store_pool, NOW) == 1
    assert await samples.lag_since(store_pool, old) == [lag_at(NOW, 0, 2)]
    assert await samples.list_decisions(store_pool) == [_decision(NOW)]


@pytest.mark.parametrize("about", ["mlp.onnx-fp32.cpu", "mlp", "digits", "cpu-0"])
async def test_decisions_are_found_by_what_they_are_about(store_pool: Pool, about: str) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    other = DecisionRow(
        at=NOW, kind=DecisionKind.WORKER, action="start", worker="cpu-1", hardware="cpu", reason="load", policy="milp",
        explanation={"unmet_per_s": 5},
    )  # fmt: skip
    await samples.write_decisions(store_pool, [_decision(NOW), other])
    assert await samples.list_decisions(store_pool, about=about) == [_decision(NOW)]
    assert await samples.list_decisions(store_pool, about="cpu") == [other]


async def test_a_change_of_placement_is_written_with_its_reasons(database: str, store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", "mlp.onnx-int8.cpu")
    await register_worker(store_pool, a_worker())
    await change_placement(store_pool, put=[an_instance("mlp.onnx-fp32.cpu")])
    async with Leadership(database, "autoscaler") as lead, lead.transaction() as session:
        await change_placement(
            session,
            put=[an_instance("mlp.onnx-int8.cpu")],
            delete=[("mlp.onnx-fp32.cpu", "cpu-0")],
            decisions=[_decision(NOW), _decision(NOW + timedelta(seconds=1))],
        )
    assert [row.variant for row in await list_instances(store_pool)] == ["mlp.onnx-int8.cpu"]
    assert [row.at for row in await samples.list_decisions(store_pool)] == [NOW + timedelta(seconds=1), NOW]


def _decision(at: datetime) -> DecisionRow:
    inputs = {"memory_bytes": 5, "variants": ["mlp.onnx-fp32.cpu"]}
    return DecisionRow(
        at=at, action="place", variant="mlp.onnx-fp32.cpu", worker="cpu-0", reason="best accuracy", inputs=inputs
    )

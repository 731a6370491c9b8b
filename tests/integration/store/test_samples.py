"""Tests of samples of lag, load, instances and workers: by second, summed by minute, deleted by table partition."""

import asyncio
from datetime import UTC, datetime, timedelta
from math import nan

import msgspec
import pytest
from msgspec.structs import replace

from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.rows.cluster import DecisionKind, DecisionRow
from schemas.rows.removals import RegisteredNames
from schemas.rows.samples import (
    AnswerTimesSample,
    GroupHealth,
    InstanceSample,
    LagMinute,
    LagReading,
    LagSample,
    LoadSample,
    WorkerSample,
)
from schemas.status import InstanceState
from store import samples
from store.errors import StoreConflict
from store.leader import Leadership
from store.placement import change_placement, list_instances, register_worker
from store.pool import Pool
from store.registry import get_profile, put_profile
from store.removals import delete_registered
from tests.example_rows import a_worker, an_instance, register
from tests.store_queries import count_lock_waits, instances_since, lag_since, load_since, workers_since
from tests.waiting import until

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
HOUR_S, DAY_S = 3600.0, 86400.0
GROUP_PARTITIONS = [("infaas.selector", "infaas.tasks.digits", 0), ("infaas.selector", "infaas.tasks.digits", 1)]


@pytest.fixture
async def ids(store_pool: Pool) -> list[int]:
    await samples.maintain_partitions(store_pool, NOW, HOUR_S, DAY_S)
    return await samples.group_partition_ids(store_pool, GROUP_PARTITIONS)


def a_reading(at: datetime, ids: list[int], lags: list[int], *, whole: bool = False) -> LagReading:
    return LagReading(
        at=at, whole=whole, group_partitions=ids, end_offsets=[10 for _ in ids], committed=[10 - lag for lag in lags],
        lags=lags, since_s=[at.timestamp() - 2.0 if lag else nan for lag in lags], healths=[1 for _ in ids],
    )  # fmt: skip


def a_lag(at: datetime, partition: int, lag: int, lag_s: float) -> LagSample:
    return LagSample(
        at=at, consumer_group="infaas.selector", topic="infaas.tasks.digits", partition=partition, end_offset=10,
        committed=10 - lag, lag=lag, lag_s=lag_s, health=GroupHealth.OK,
    )  # fmt: skip


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


async def test_group_partition_ids_are_stable(store_pool: Pool, ids: list[int]) -> None:
    more = [*GROUP_PARTITIONS, ("g", "t", 7)]
    again = await samples.group_partition_ids(store_pool, list(reversed(more)))
    assert again[1:] == list(reversed(ids))
    assert len(set(again)) == 3
    assert await samples.group_partition_ids(store_pool, []) == []


async def test_latest_lag_starts_at_last_whole_reading(store_pool: Pool, ids: list[int]) -> None:
    assert await samples.latest_lag(store_pool) == []
    gone = await samples.group_partition_ids(store_pool, [("gone", "gone", 0)])
    await samples.write_reading(store_pool, a_reading(NOW - seconds(3), gone, [9], whole=True))
    await samples.write_reading(store_pool, a_reading(NOW - seconds(2), ids, [5, 3], whole=True))
    await samples.write_reading(store_pool, a_reading(NOW - seconds(1), ids[:1], [0]))
    await samples.write_reading(store_pool, LagReading(at=NOW, whole=False))
    # A lag that has not changed since its sample is two seconds older now.
    assert await samples.latest_lag(store_pool) == [a_lag(NOW, 0, 0, 0.0), a_lag(NOW, 1, 3, 4.0)]
    assert await lag_since(store_pool, NOW - seconds(1)) == [a_lag(NOW - seconds(1), 0, 0, 0.0)]
    assert await samples.reading_error(store_pool) == ""


async def test_lag_sample_distinguishes_unknown_from_zero(store_pool: Pool, ids: list[int]) -> None:
    unknown = LagReading(
        at=NOW, whole=True, group_partitions=ids, end_offsets=[-1, 4], committed=[-2, -1], lags=[-1, 4],
        since_s=[nan, nan], healths=[0, 1],
    )  # fmt: skip
    await samples.write_reading(store_pool, unknown)
    await samples.write_reading(store_pool, LagReading(at=NOW + seconds(1), whole=False, error="Kafka is away"))
    assert await samples.reading_error(store_pool) == "Kafka is away"
    first, second = await samples.latest_lag(store_pool)
    assert (first.at, first.end_offset, first.committed, first.lag, first.lag_s) == (NOW, None, None, None, None)
    assert (second.end_offset, second.committed, second.lag, second.lag_s) == (4, None, 4, None)
    assert (first.health, second.health) == (GroupHealth.UNKNOWN, GroupHealth.OK)


def a_load(at: datetime, inputs: int = 3, target: str | None = None) -> LoadSample:
    return LoadSample(
        at=at, task="digits", target=target, min_accuracy=0.5, latency_ms=None, offline=False, queries=2, inputs=inputs,
        refused=1, upgraded=0, capped=1, max_costs=0.5, answered=inputs, late=1, failed=0,
    )  # fmt: skip


def an_instance_sample(at: datetime, inputs: int, batch_size: float) -> InstanceSample:
    return InstanceSample(
        at=at, variant="mlp.onnx-fp32.cpu", worker="cpu-0", state=InstanceState.OVERLOADED, queued=3,
        batch_size=batch_size, batch_s=0.25, slowdown=1.25, answered=inputs, inputs=inputs, late=1, expired=0,
    )  # fmt: skip


def a_worker_sample(at: datetime, utilisation: float) -> WorkerSample:
    return WorkerSample(
        at=at, worker="cpu-0", hardware="cpu", slots=2, utilisation=utilisation, memory_used=5, memory_total=9,
        cpus=2.0, cpu_busy=utilisation,
    )  # fmt: skip


@pytest.mark.usefixtures("ids")
async def test_samples_are_read_as_written(store_pool: Pool) -> None:
    load, instance, worker = a_load(NOW), an_instance_sample(NOW, 8, 2.5), a_worker_sample(NOW, 0.5)
    await samples.write_samples(store_pool, [load])
    await samples.write_samples(store_pool, [instance])
    await samples.write_samples(store_pool, [worker])
    assert await load_since(store_pool, NOW) == [load]
    assert await instances_since(store_pool, NOW) == [instance]
    assert await workers_since(store_pool, NOW) == [worker]


@pytest.mark.usefixtures("ids")
async def test_roll_up_sums_each_minute_once(store_pool: Pool) -> None:
    minute = NOW.replace(second=0)
    await samples.write_samples(store_pool, [a_load(minute, 3), a_load(minute + seconds(59), 5)])
    await samples.write_samples(store_pool, [a_load(minute, 1, target="mlp"), a_load(minute + seconds(60), 100)])
    await samples.write_samples(store_pool, [an_instance_sample(minute, 30, 1), an_instance_sample(NOW, 10, 5)])
    await samples.write_samples(store_pool, [a_worker_sample(minute, 0.25), a_worker_sample(NOW, 0.75)])
    for _ in range(2):
        await samples.roll_up(store_pool, minute)
    load = (
        "SELECT array_agg((target, queries, inputs, refused, capped, max_costs, answered, late)::text ORDER BY inputs) "
        "FROM load_minutes"
    )
    assert await store_pool.fetch_value(list[str], load) == ["(mlp,2,1,1,1,0.5,1,1)", "(,4,8,2,2,1,8,2)"]
    instance = "SELECT array_agg((state, inputs, late, batch_size)::text) FROM instance_minutes"
    assert await store_pool.fetch_value(list[str], instance) == ["(overloaded,40,2,2)"]
    worker = "SELECT array_agg((worker, utilisation, cpus, cpu_busy)::text) FROM worker_minutes"
    assert await store_pool.fetch_value(list[str], worker) == ["(cpu-0,0.5,2,0.5)"]


async def test_lag_minutes_are_read_by_partition(store_pool: Pool, ids: list[int]) -> None:
    minute = LagMinute(
        at=NOW,
        readings=60,
        group_partitions=ids[1:],
        arrived=[7],
        completed=[5],
        lag_max=[4],
        lag_mean=[1.5],
        lag_s_max=[0.5],
    )
    await samples.write_samples(store_pool, [minute])
    row = "SELECT (topic, partition, arrived, completed, lag_max, lag_mean, lag_s_max)::text FROM lag_by_minute"
    assert await store_pool.fetch_value(str, row) == "(infaas.tasks.digits,1,7,5,4,1.5,0.5)"


async def test_task_answer_times_add_up_samples_in_range(store_pool: Pool) -> None:
    now = datetime.now(UTC)
    await samples.maintain_partitions(store_pool, now, HOUR_S, DAY_S)
    for age_s, task, buckets in ((70, "digits", [1]), (7, "digits", [12, 20]), (1, "digits", [12]), (1, "text", [30])):
        row = AnswerTimesSample(at=now - seconds(age_s), task=task, buckets=buckets, counts=[5 for _ in buckets])
        await samples.write_samples(store_pool, [row])
    found = {one.task: dict(zip(one.buckets, one.counts, strict=True))
             for one in await samples.task_answer_times(store_pool, 5)}  # fmt: skip
    assert found == {"digits": {12: 10, 20: 5}, "text": {30: 5}}


async def test_maintain_partitions_creates_and_drops(store_pool: Pool, ids: list[int]) -> None:
    await samples.write_reading(store_pool, a_reading(NOW, ids, [1, 2], whole=True))
    await samples.write_samples(store_pool, [a_load(NOW)])
    assert await samples.maintain_partitions(store_pool, NOW, HOUR_S, DAY_S) == 0, "nothing is old yet"
    later = NOW + seconds(HOUR_S)
    await samples.maintain_partitions(store_pool, later, HOUR_S, DAY_S)
    assert len(await lag_since(store_pool, NOW)) == 2, "an hour is kept"
    await samples.write_reading(store_pool, a_reading(later + seconds(1200), ids, [1, 2], whole=True))
    later += seconds(600)
    assert await samples.maintain_partitions(store_pool, later, HOUR_S, DAY_S) > 0
    assert await load_since(store_pool, NOW) == []
    assert {row.at for row in await lag_since(store_pool, NOW)} == {later + seconds(600)}


async def test_prune_decisions_deletes_old_rows(store_pool: Pool) -> None:
    await samples.write_decisions(store_pool, [_decision(NOW - seconds(1)), _decision(NOW)])
    assert await samples.prune_decisions(store_pool, NOW) == 1
    assert await samples.list_decisions(store_pool) == [_decision(NOW)]


@pytest.mark.parametrize("about", ["mlp.onnx-fp32.cpu", "mlp", "digits", "cpu-0"])
async def test_list_decisions_filters_by_object(store_pool: Pool, about: str) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    other = DecisionRow(
        at=NOW, kind=DecisionKind.WORKER, action="start", worker="cpu-1", hardware="cpu", reason="load", policy="milp",
        explanation={"unmet_per_s": 5},
    )  # fmt: skip
    await samples.write_decisions(store_pool, [_decision(NOW), other])
    assert await samples.list_decisions(store_pool, about=about) == [_decision(NOW)]
    assert await samples.list_decisions(store_pool, about="cpu") == [other]


async def test_change_placement_writes_decisions(database: str, store_pool: Pool) -> None:
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


async def test_removal_leaves_no_decision_of_concurrent_plan(database: str, store_pool: Pool) -> None:
    variant = "mlp.onnx-fp32.cpu"
    await register(store_pool, variant)
    await register_worker(store_pool, a_worker())
    names = RegisteredNames(task="digits", architectures=("mlp",), variants=(variant,))
    late, decided = [(variant, "cpu-0")], [replace(_decision(NOW), variant=variant)]
    async with Leadership(database, "autoscaler") as lead, asyncio.TaskGroup() as tasks:
        async with lead.transaction() as session:
            await change_placement(session, delete=late, decisions=decided)
            removal = tasks.create_task(delete_registered(store_pool, names, []))
            await until(lambda: count_lock_waits(store_pool))
        await removal
        assert await samples.list_decisions(store_pool) == []
        with pytest.raises(StoreConflict, match="does not exist any more"):
            async with lead.transaction() as session:
                await change_placement(session, delete=late, decisions=decided)
    assert await samples.list_decisions(store_pool) == []


def _decision(at: datetime) -> DecisionRow:
    inputs = {"memory_bytes": 5, "variants": ["mlp.onnx-fp32.cpu"]}
    return DecisionRow(
        at=at,
        action="group_partition",
        variant="mlp.onnx-fp32.cpu",
        worker="cpu-0",
        reason="best accuracy",
        inputs=inputs,
    )


async def test_activity_joins_minutes_with_samples_not_yet_aggregated(store_pool: Pool) -> None:
    now = datetime.now(UTC)
    await samples.maintain_partitions(store_pool, now, HOUR_S, DAY_S)
    minute = now.replace(second=0, microsecond=0) - seconds(120)
    for at in (minute + seconds(1), minute + seconds(2), now):
        await samples.write_samples(store_pool, [a_load(at)])
        await samples.write_samples(store_pool, [an_instance_sample(at, 1, 1)])
        await samples.write_samples(store_pool, [a_worker_sample(at, 0.5)])
    await samples.roll_up(store_pool, minute)
    fine = await samples.task_load_points(store_pool, "digits", 600, 10)
    assert [(point.queries, point.answered) for point in fine] == [(4, 6), (2, 3)]
    coarse = await samples.task_load_points(store_pool, "digits", 3600, 60)
    assert [point.queries for point in coarse] == [4, 2]
    assert coarse[0].at == minute
    counts = await samples.instance_counts(store_pool, 3600)
    assert [(point.name, point.count) for point in counts] == [("mlp.onnx-fp32.cpu", 1)] * 2
    assert [(point.name, point.count) for point in await samples.worker_counts(store_pool, 3600)] == [("cpu", 1)] * 2


async def test_first_interval_of_task_load_is_whole(store_pool: Pool) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await samples.maintain_partitions(store_pool, now, HOUR_S, DAY_S)
    await samples.write_samples(store_pool, [a_load(now - seconds(ago)) for ago in range(590, 630)])
    first = (await samples.task_load_points(store_pool, "digits", 600, 10))[0]
    assert first.queries == 10 * a_load(now).queries


async def test_task_lags_add_topics_of_task_and_variants(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await samples.maintain_partitions(store_pool, NOW, HOUR_S, DAY_S)
    topics = ["infaas.tasks.digits", "infaas.tasks.digits.offline", "infaas.variants.mlp.onnx-fp32.cpu", "elsewhere"]
    ids = await samples.group_partition_ids(store_pool, [("group", topic, 0) for topic in topics])
    assert await samples.reading_at(store_pool) is None
    await samples.write_reading(store_pool, a_reading(NOW, ids, [1, 2, 4, 8], whole=True))
    assert await samples.task_lags(store_pool) == [samples.TaskLag(task="digits", lag=7, lag_s=2.0)]
    assert await samples.reading_at(store_pool) == NOW


async def test_variant_loads_tell_answers_and_seconds_of_an_input(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    now = datetime.now(UTC)
    await samples.maintain_partitions(store_pool, now, HOUR_S, DAY_S)
    await samples.write_samples(store_pool, [an_instance_sample(now, 8, 2.5), an_instance_sample(now, 4, 2.5)])
    [load] = await samples.variant_loads(store_pool, 60)
    assert (load.variant, load.task, load.answered, load.hardware) == ("mlp.onnx-fp32.cpu", "digits", 12, "cpu")
    assert load.input_s == pytest.approx(0.0005)  # a batch of 32 takes 16 ms
    assert load.generation is None


async def test_variant_loads_tell_times_of_generated_answers(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    profile, now = await get_profile(store_pool, "mlp.onnx-fp32.cpu"), datetime.now(UTC)
    assert profile is not None
    generation = GenerationProfile(
        context_tokens=2048, sequences=1, prompt_tokens=10, answer_tokens=20, bytes_per_token=4.0,
        prefill=(PrefillTime(tokens=10, p50_s=0.1, p99_s=0.2),), step=(StepTime(sequences=1, p50_s=0.01, p99_s=0.02),),
    )  # fmt: skip
    await put_profile(store_pool, msgspec.structs.replace(profile, generation=generation))
    await samples.maintain_partitions(store_pool, now, HOUR_S, DAY_S)
    await samples.write_samples(store_pool, [an_instance_sample(now, 8, 2.5)])
    [load] = await samples.variant_loads(store_pool, 60)
    assert load.generation == generation

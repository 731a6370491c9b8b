"""Overview of a system: the load of each task and its answers, the workers, and the last decisions.

All figures come from the samples that the autoscaler records each second, so an overview costs the serving processes
nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from admin.api import RequestContext, endpoint, param
from admin.system import cluster_problems, lag_alarms
from schemas.access import Role
from schemas.answer_times import quantile_s
from schemas.generation_model import priced_s
from schemas.hardware import cost_per_1000, list_price
from schemas.rows.cluster import ClusterRows, DecisionRow, WorkerRow
from schemas.rows.samples import WorkerSample
from schemas.status import SERVING
from store.samples import (
    TaskAnswers,
    TaskAnswerTimes,
    TaskLag,
    VariantAnswers,
    latest_worker_samples,
    list_decisions,
    task_answer_times,
    task_lags,
    task_loads,
    variant_loads,
)
from store.scaling import read_cluster

_SAMPLED_S: Final = 120.0
"""Longest time between two samples of a worker, doubled: an idle one has one a minute."""
_DECISIONS: Final = 5


class OverviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Time range of the figures."""

    seconds: Annotated[
        int, msgspec.Meta(ge=5, le=3600), param("Seconds before now that are added up.", "--seconds", "-s")
    ] = 60


class AnsweringVariant(msgspec.Struct, frozen=True, kw_only=True):
    """Variant that answers queries of a task."""

    variant: str
    share: float
    """Share of the task's answers, 0..1."""
    accuracy: float


class TaskOverview(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a task and its answers."""

    task: str
    queries_per_s: float
    """Online queries a second."""
    offline_per_s: float
    attainment: float | None
    """Share of the ended queries, 0..1, that were answered in time without an error; null: none has ended."""
    refused: int
    late: int
    failed: int
    p50_s: float | None
    """Median of the seconds from the client's send to the result of online queries, at most 4.5 % off; null: there was
    no result. The last five seconds may be missing."""
    p99_s: float | None
    """Seconds that 99 % of them did not exceed."""
    wanted_accuracy: float | None
    """Mean accuracy required by the queries that required one; null: there was none."""
    given_accuracy: float | None
    """Mean accuracy of the variants that answered; null: none did."""
    given_cost: float | None
    """Mean cost of the variants that answered, in USD per 1000 queries of one input, at list prices and their best
    batch sizes; of generative ones per 1000 tokens, with as many answers at once as they make; null: none answered."""
    wanted_cost: float | None
    """Mean maximum cost of the queries that stated one, in the same unit; null: there was none."""
    waiting: int = 0
    """Queries that wait in the topics of the task and of its variants."""
    waiting_s: float | None = None
    """Age of the oldest of them in seconds; null: none waits."""
    variants: list[AnsweringVariant]
    """The most used first."""


class WorkerOverview(msgspec.Struct, frozen=True, kw_only=True):
    """Worker with its load."""

    worker: str
    hardware: str
    state: str
    """`alive`, `draining`, or `silent`: its last heartbeat is too old."""
    slots: int
    busy: float | None
    """Share of the slots' time spent computing, 0..1; null: no sample."""
    cpu_busy: float | None
    """Share of the CPU time of its machine, or of its cgroup, in use by all processes, 0..1; null: no sample."""
    memory_used: int | None
    memory_total: int
    loaded: list[str]
    """Variants that it serves."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """State of a system at a glance."""

    seconds: int
    problems: list[str]
    """Problems that a person should examine; empty: none."""
    paused: bool
    """True if a person has paused scaling."""
    tasks: list[TaskOverview]
    """Tasks with load or with waiting queries, by name."""
    workers: list[WorkerOverview]
    decisions: list[DecisionRow]
    """Last decisions of the autoscaler, newest first."""


@endpoint("overview.show", "GET", "/v1/overview", Role.ADMIN)
async def overview(context: RequestContext, request: OverviewRequest) -> Overview:
    """Show the load of each task and its answers, the workers, and the last decisions."""
    pool = context.pool
    _, alarms = await lag_alarms(pool)
    tasks, variants = await task_loads(pool, request.seconds), await variant_loads(pool, request.seconds)
    times, lags = await task_answer_times(pool, request.seconds), await task_lags(pool)
    cluster, samples = await read_cluster(pool), await latest_worker_samples(pool, _SAMPLED_S)
    return Overview(
        seconds=request.seconds,
        problems=[*alarms, *cluster_problems(cluster)],
        paused=cluster.control.paused,
        tasks=summarize_tasks(tasks, variants, request.seconds, lags, times),
        workers=summarize_workers(cluster, samples),
        decisions=await list_decisions(pool, _DECISIONS),
    )


def summarize_tasks(
    loads: Iterable[TaskAnswers],
    variants: Iterable[VariantAnswers],
    seconds: float,
    lags: Iterable[TaskLag] = (),
    times: Iterable[TaskAnswerTimes] = (),
) -> list[TaskOverview]:
    """Return the tasks with load or with waiting queries, by name. Pure."""
    by_task = defaultdict[str, list[VariantAnswers]](list)
    for variant in variants:
        by_task[variant.task].append(variant)
    waiting, loaded = {lag.task: lag for lag in lags}, {load.task: load for load in loads}
    took = {one.task: dict(zip(one.buckets, one.counts, strict=True)) for one in times}
    return [
        _task(loaded.get(name) or _no_load(name), by_task[name], seconds, waiting.get(name), took.get(name, {}))
        for name in sorted(loaded.keys() | waiting.keys())
    ]


def _no_load(task: str) -> TaskAnswers:
    return TaskAnswers(
        task=task, queries=0, offline_queries=0, refused=0, answered=0, late=0, failed=0, wanted_accuracy=None,
        wanted_cost=None,
    )  # fmt: skip


def _task(
    load: TaskAnswers,
    variants: Sequence[VariantAnswers],
    seconds: float,
    lag: TaskLag | None,
    took: Mapping[int, int],
) -> TaskOverview:
    ended, answered = load.refused + load.answered, sum(variant.answered for variant in variants)
    given = sum(variant.answered * variant.accuracy for variant in variants)
    return TaskOverview(
        task=load.task,
        queries_per_s=load.queries / seconds,
        offline_per_s=load.offline_queries / seconds,
        attainment=1.0 - (load.refused + load.late + load.failed) / ended if ended else None,
        refused=load.refused,
        late=load.late,
        failed=load.failed,
        p50_s=quantile_s(took, 0.5),
        p99_s=quantile_s(took, 0.99),
        wanted_accuracy=load.wanted_accuracy,
        given_accuracy=given / answered if answered else None,
        given_cost=sum(one.answered * _cost(one) for one in variants) / answered if answered else None,
        wanted_cost=load.wanted_cost,
        waiting=lag.lag if lag else 0,
        waiting_s=lag and lag.lag_s,
        variants=[
            AnsweringVariant(variant=one.variant, share=one.answered / answered, accuracy=one.accuracy)
            for one in variants
        ],
    )


def _cost(one: VariantAnswers) -> float:
    return cost_per_1000(priced_s(one.generation, one.input_s, offline=True), list_price(one.hardware, one.threads))


def summarize_workers(cluster: ClusterRows, samples: Iterable[WorkerSample]) -> list[WorkerOverview]:
    """Return the workers that have not retired. Pure."""
    found = {sample.worker: sample for sample in samples}
    loaded = defaultdict[str, list[str]](list)
    for row in cluster.instances:
        if row.state in SERVING:
            loaded[row.worker].append(row.variant)
    return [_worker(worker, found.get(worker.name), loaded[worker.name]) for worker in cluster.workers]


def _worker(worker: WorkerRow, sample: WorkerSample | None, loaded: Iterable[str]) -> WorkerOverview:
    return WorkerOverview(
        worker=worker.name,
        hardware=worker.hardware,
        state=worker.state,
        slots=worker.slots,
        busy=sample and sample.utilisation,
        cpu_busy=sample.cpu_busy if sample and sample.cpus else None,
        memory_used=sample and sample.memory_used,
        memory_total=worker.memory_bytes,
        loaded=sorted(loaded),
    )


OVERVIEW: Final = (overview,)

"""Activity over time: the load of a task by class, and the numbers of instances and workers with their decisions."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

import msgspec

from admin.api import RequestContext, endpoint, param
from schemas.access import Role
from schemas.errors import NotFound
from schemas.rows.cluster import DecisionRow
from store.registry import get_task
from store.samples import (
    CountPoint,
    TaskLoadPoint,
    instance_counts,
    list_decisions,
    reading_at,
    task_load_points,
    worker_counts,
)

_Minutes = Annotated[int, msgspec.Meta(ge=1, le=1440), param("Minutes before now.", "--minutes", "-m")]
_FINE_MINUTES: Final = 15
"""Longest range that is shown in intervals of `_FINE_S`."""
_FINE_S: Final = 10
_MINUTE_S: Final = 60


class LoadHistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Task and time range of a load."""

    task: Annotated[str, param("Name of a task.")]
    minutes: _Minutes = 15


class LoadSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Load of one class of queries; the lists are parallel to the times of the answer."""

    target: str | None
    """Model or variant that the queries name; null: none."""
    min_accuracy: float
    """Required accuracy, rounded to the class."""
    latency_ms: float | None
    """Required latency, rounded to the class; null: none."""
    offline: bool
    queries: list[int]
    answered: list[int]
    refused: list[int]
    late: list[int]
    failed: list[int]


class LoadHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a task over time."""

    task: str
    step_s: int
    """Length of an interval in seconds."""
    times: list[datetime]
    """Beginnings of the intervals, oldest first."""
    until: datetime | None
    """Time of the last reading: the counts of an interval that ends later are incomplete; null: there was none."""
    classes: list[LoadSeries]
    """The most used first."""


class TimelineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Time range of a timeline."""

    minutes: _Minutes = 60
    decisions: Annotated[int, msgspec.Meta(ge=0, le=1000), param("Maximum number of decisions.")] = 100


class CountSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers over time, parallel to the times of the timeline."""

    name: str
    counts: list[int]


class ScaleTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of instances and workers in each minute, with the decisions of that time."""

    times: list[datetime]
    """Minutes, oldest first."""
    instances: list[CountSeries]
    """Instances that serve, by variant; the most first."""
    workers: list[CountSeries]
    """Workers by hardware type."""
    decisions: list[DecisionRow]
    """Decisions since the first minute, the latest first."""


@endpoint("tasks.load", "GET", "/v1/tasks/{task}/load", Role.ADMIN)
async def task_load(context: RequestContext, request: LoadHistoryRequest) -> LoadHistory:
    """Show the load of a task over time by class of needs: queries, answers, refusals.

    Raises:
        NotFound: the task does not exist.
    """
    if await get_task(context.pool, request.task) is None:
        raise NotFound(f"there is no task {request.task[:80]!r}; `infaas tasks` lists the tasks")
    step_s = _FINE_S if request.minutes <= _FINE_MINUTES else _MINUTE_S
    until = await reading_at(context.pool)
    points = await task_load_points(context.pool, request.task, request.minutes * _MINUTE_S, step_s)
    return arrange_load(request.task, step_s, points, until)


@endpoint("scale.timeline", "GET", "/v1/scale/timeline", Role.ADMIN)
async def timeline(context: RequestContext, request: TimelineRequest) -> ScaleTimeline:
    """Show the numbers of instances and workers over time, with the decisions of that time."""
    pool, seconds = context.pool, request.minutes * _MINUTE_S
    instances, workers = await instance_counts(pool, seconds), await worker_counts(pool, seconds)
    decisions = await list_decisions(pool, request.decisions) if request.decisions else []
    return arrange_timeline(instances, workers, decisions)


def arrange_load(task: str, step_s: int, points: Iterable[TaskLoadPoint], until: datetime | None) -> LoadHistory:
    """Return the load with one series per class. Pure."""
    by_class = defaultdict[tuple[str | None, float, float | None, bool], dict[datetime, TaskLoadPoint]](dict)
    for point in points:
        by_class[point.target, point.min_accuracy, point.latency_ms, point.offline][point.at] = point
    times = sorted({at for of_class in by_class.values() for at in of_class})
    classes = [_class_load(times, of_class) for of_class in by_class.values()]
    classes.sort(key=lambda one: -sum(one.queries) - sum(one.answered))
    return LoadHistory(task=task, step_s=step_s, times=times, until=until, classes=classes)


def _class_load(times: list[datetime], points: dict[datetime, TaskLoadPoint]) -> LoadSeries:
    one, found = next(iter(points.values())), [points.get(at) for at in times]
    return LoadSeries(
        target=one.target,
        min_accuracy=one.min_accuracy,
        latency_ms=one.latency_ms,
        offline=one.offline,
        queries=[point.queries if point else 0 for point in found],
        answered=[point.answered if point else 0 for point in found],
        refused=[point.refused if point else 0 for point in found],
        late=[point.late if point else 0 for point in found],
        failed=[point.failed if point else 0 for point in found],
    )


def arrange_timeline(
    instances: Iterable[CountPoint], workers: Iterable[CountPoint], decisions: Iterable[DecisionRow]
) -> ScaleTimeline:
    """Return the timeline with one series per variant and hardware type. Pure."""
    instances, workers = list(instances), list(workers)
    times = sorted({point.at for point in (*instances, *workers)})
    return ScaleTimeline(
        times=times,
        instances=_series(times, instances),
        workers=_series(times, workers),
        decisions=[row for row in decisions if not times or row.at >= times[0]],
    )


def _series(times: list[datetime], points: list[CountPoint]) -> list[CountSeries]:
    counts = defaultdict[str, dict[datetime, int]](dict)
    for point in points:
        counts[point.name][point.at] = point.count
    series = [CountSeries(name=name, counts=[found.get(at, 0) for at in times]) for name, found in counts.items()]
    return sorted(series, key=lambda one: (-sum(one.counts), one.name))


ACTIVITY: Final = (task_load, timeline)

"""Tests of activity over time: series by class, and the timeline of instances and workers."""

from datetime import UTC, datetime, timedelta

from admin.activity import arrange_load, arrange_timeline
from schemas.rows.cluster import DecisionRow
from store.samples import CountPoint, TaskLoadPoint

AT = datetime(2026, 1, 1, tzinfo=UTC)


def a_point(step: int, queries: int, latency_ms: float | None = None) -> TaskLoadPoint:
    return TaskLoadPoint(
        at=AT + timedelta(seconds=10 * step), target=None, min_accuracy=0.5, latency_ms=latency_ms, offline=False,
        queries=queries, refused=1, answered=queries, late=0, failed=0,
    )  # fmt: skip


def test_arrange_load_makes_parallel_series_busiest_first() -> None:
    load = arrange_load("digits", 10, [a_point(0, 1), a_point(1, 2), a_point(1, 9, latency_ms=20.0)], None)
    assert load.times == [AT, AT + timedelta(seconds=10)]
    assert [(one.latency_ms, one.queries, one.refused) for one in load.classes] == [
        (20.0, [0, 9], [0, 1]),
        (None, [1, 2], [1, 1]),
    ]


def test_arrange_timeline_counts_by_minute_and_keeps_its_decisions() -> None:
    minute = timedelta(minutes=1)
    instances = [CountPoint(at=AT, name="a.b.cpu", count=1), CountPoint(at=AT + minute, name="c.d.cpu", count=3)]
    workers = [CountPoint(at=AT, name="cpu", count=2)]
    rows = [
        DecisionRow(at=AT + minute, action="place", reason=""),
        DecisionRow(at=AT - minute, action="old", reason=""),
    ]
    found = arrange_timeline(instances, workers, rows)
    assert found.times == [AT, AT + minute]
    assert [(one.name, one.counts) for one in found.instances] == [("c.d.cpu", [0, 3]), ("a.b.cpu", [1, 0])]
    assert [(one.name, one.counts) for one in found.workers] == [("cpu", [2, 0])]
    assert [row.action for row in found.decisions] == ["place"]

"""Tests of the overview and of activity over time: load of tasks, series by class, timeline of instances."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from admin.activity import arrange_load, arrange_timeline
from admin.overview import summarize_tasks, summarize_workers
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.hardware import cost_per_1000, list_price
from schemas.rows.cluster import ClusterRows, DecisionRow, ScaleControl
from schemas.rows.samples import WorkerSample
from store.samples import CountPoint, TaskAnswers, TaskAnswerTimes, TaskLag, TaskLoadPoint, VariantAnswers
from tests.example_rows import a_worker

AT = datetime(2026, 1, 1, tzinfo=UTC)


def some_answers(variant: str, answered: int, accuracy: float, input_s: float) -> VariantAnswers:
    return VariantAnswers(
        variant=variant, task="digits", hardware="cpu", answered=answered, accuracy=accuracy, threads=1, input_s=input_s
    )


def a_load(task: str = "digits") -> TaskAnswers:
    return TaskAnswers(
        task=task, queries=120, offline_queries=60, refused=10, answered=90, late=3, failed=7, wanted_accuracy=0.8,
        wanted_cost=0.002,
    )  # fmt: skip


def test_summarize_tasks_weighs_accuracy_and_cost_by_answers() -> None:
    variants = [some_answers("a.b.cpu", 60, 0.9, 0.002), some_answers("c.d.cpu", 30, 0.6, 0.001)]
    times = [TaskAnswerTimes(task="digits", buckets=[40, 24], counts=[2, 98])]
    [one] = summarize_tasks([a_load()], variants, 60, [TaskLag(task="digits", lag=5, lag_s=1.5)], times)
    assert (one.queries_per_s, one.offline_per_s, one.attainment) == (2.0, 1.0, 0.8)
    assert one.given_accuracy == pytest.approx(0.8)
    assert one.given_cost == pytest.approx(cost_per_1000((60 * 0.002 + 30 * 0.001) / 90, list_price("cpu", 1)))
    assert one.wanted_cost == 0.002
    assert (one.p50_s, one.p99_s) == (pytest.approx(0.00766, rel=0.01), pytest.approx(0.03064, rel=0.01))
    assert (one.waiting, one.waiting_s) == (5, 1.5)
    assert [round(variant.share, 2) for variant in one.variants] == [0.67, 0.33]


def test_summarize_tasks_gives_cost_of_generated_tokens() -> None:
    """The maximum cost of a generative query is for 1000 tokens, so the given cost is, too."""
    profile = GenerationProfile(
        context_tokens=2048, sequences=4, prompt_tokens=10, answer_tokens=21, bytes_per_token=4.0,
        prefill=(PrefillTime(tokens=10, p50_s=0.1, p99_s=0.2),),
        step=(StepTime(sequences=1, p50_s=0.01, p99_s=0.02), StepTime(sequences=4, p50_s=0.02, p99_s=0.04)),
    )  # fmt: skip
    answers = msgspec.structs.replace(some_answers("llm.llamacpp-q8.cpu", 10, 0.9, 0.125), generation=profile)
    [one] = summarize_tasks([a_load()], [answers], 60)
    token_s = (0.1 + 20 * 0.02) / 4 / 21  # of four answers at once, which is the cheapest
    assert one.given_cost == pytest.approx(cost_per_1000(token_s, list_price("cpu", 1)))


def test_summarize_tasks_tells_unknown_from_zero() -> None:
    [one] = summarize_tasks([a_load()], [], 60)
    assert (one.given_accuracy, one.given_cost, one.waiting, one.waiting_s) == (None, None, 0, None)
    assert (one.p50_s, one.p99_s) == (None, None)


def test_summarize_tasks_has_tasks_that_only_wait() -> None:
    """A backlog that nothing answers has no load sample: its clients have stopped asking."""
    lags = [TaskLag(task=name, lag=7, lag_s=90.0) for name in ("zeros", "animals")]
    found = summarize_tasks([a_load()], [some_answers("v.w.cpu", 1, 0.9, 0.001)], 60, lags)
    assert [(one.task, one.waiting, one.waiting_s) for one in found] == [
        ("animals", 7, 90.0), ("digits", 0, None), ("zeros", 7, 90.0),
    ]  # fmt: skip
    assert (found[0].queries_per_s, found[0].attainment, found[0].variants) == (0.0, None, [])


def test_summarize_workers_tells_unknown_cpu_from_idle() -> None:
    def sample(worker: str, cpus: float) -> WorkerSample:
        return WorkerSample(
            at=AT, worker=worker, hardware="cpu", slots=2, utilisation=0.0, memory_used=1,
            memory_total=2, cpus=cpus, cpu_busy=0.0,
        )  # fmt: skip

    names = ("idle", "unknown", "silent")
    control = ScaleControl(paused=False, changed_by="", changed_at=AT)
    rows = ClusterRows(control=control, wanted=[], workers=[*map(a_worker, names)], instances=[], pins=[])
    found = summarize_workers(rows, [sample("idle", cpus=2.0), sample("unknown", cpus=0.0)])
    assert [one.cpu_busy for one in found] == [0.0, None, None]


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

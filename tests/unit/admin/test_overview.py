"""Tests of the overview: the load of tasks, with what answered it and what waits."""

import pytest

from admin.overview import summarize_tasks
from schemas.hardware import cost_per_1000, list_price
from store.samples import TaskAnswers, TaskLag, VariantAnswers


def some_answers(variant: str, answered: int, accuracy: float, input_s: float) -> VariantAnswers:
    return VariantAnswers(
        variant=variant, task="digits", hardware="cpu", answered=answered, accuracy=accuracy, threads=1, input_s=input_s
    )


def a_load(task: str = "digits") -> TaskAnswers:
    return TaskAnswers(
        task=task, queries=120, offline_queries=60, refused=10, answered=90, late=3, failed=7, wanted_accuracy=0.8
    )


def test_summarize_tasks_weighs_accuracy_and_cost_by_answers() -> None:
    variants = [some_answers("a.b.cpu", 60, 0.9, 0.002), some_answers("c.d.cpu", 30, 0.6, 0.001)]
    [one] = summarize_tasks([a_load()], variants, 60, [TaskLag(task="digits", lag=5, lag_s=1.5)])
    assert (one.queries_per_s, one.offline_per_s, one.attainment) == (2.0, 1.0, 0.8)
    assert one.given_accuracy == pytest.approx(0.8)
    assert one.given_cost == pytest.approx(cost_per_1000((60 * 0.002 + 30 * 0.001) / 90, list_price("cpu", 1)))
    assert (one.waiting, one.waiting_s) == (5, 1.5)
    assert [round(variant.share, 2) for variant in one.variants] == [0.67, 0.33]


def test_summarize_tasks_tells_unknown_from_zero() -> None:
    [one] = summarize_tasks([a_load()], [], 60)
    assert (one.given_accuracy, one.given_cost, one.waiting, one.waiting_s) == (None, None, 0, None)

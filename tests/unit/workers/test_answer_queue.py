"""Tests of the order of generative answers, and of the decision which of them may begin."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from workers.slots.answer_queue import NO_PACE, AnswerPace, AnswerQueue, keeps_pace, may_begin


@dataclass(eq=False)
class Work:
    deadline_s: float = math.inf
    offline: bool = False
    allow_late: bool = False
    prompt_tokens: int = 10
    pace_s: float = NO_PACE


def times(sequences: int = 4) -> GenerationModel:
    """Return the times of a variant: 1 ms a token of the prompt, and 10 ms a step for each answer at once."""
    return GenerationModel(
        GenerationProfile(
            context_tokens=1000,
            sequences=sequences,
            prefill=(PrefillTime(10, 0.01, 0.01), PrefillTime(100, 0.1, 0.1)),
            step=(StepTime(1, 0.01, 0.01), StepTime(4, 0.04, 0.04)),
            prompt_tokens=10,
            answer_tokens=20,
            bytes_per_token=4.0,
        )
    )


def test_answer_queue_orders_online_before_offline_then_by_deadline() -> None:
    queue, works = AnswerQueue[Work](), [Work(5.0, offline=True), Work(9.0), Work(3.0), Work()]
    for work in works:
        queue.add(work)
    assert queue.waiting() == [works[2], works[1], works[3], works[0]]
    assert (len(queue), queue.online) == (4, 3)
    queue.remove([works[2]])
    assert queue.first() is works[1]


def test_answer_queue_keeps_order_of_arrival_among_equals() -> None:
    queue, works = AnswerQueue[Work](), [Work(1.0) for _ in range(3)]
    for work in works:
        queue.add(work)
    assert queue.waiting() == works


def test_expire_removes_late_answers_unless_allowed() -> None:
    queue, late, allowed, later = AnswerQueue[Work](), Work(1.0), Work(1.0, allow_late=True), Work(2.0)
    for work in (late, allowed, later):
        queue.add(work)
    assert queue.next_deadline_s() == 1.0
    assert queue.expire(1.5) == [late]
    assert queue.waiting() == [allowed, later]
    assert queue.next_deadline_s() == 2.0


def test_may_begin_limits_answers_at_once() -> None:
    pace = AnswerPace(NO_PACE, 5, 1.0, 5)
    assert may_begin(Work(), [pace] * 3, 0, times(), 1.0)
    assert not may_begin(Work(), [pace] * 4, 0, times(), 1.0)


def test_may_begin_limits_offline_answers_to_half() -> None:
    pace = AnswerPace(NO_PACE, 5, 1.0, 5)
    assert may_begin(Work(offline=True), [pace], 1, times(), 1.0)
    assert not may_begin(Work(offline=True), [pace] * 2, 2, times(), 1.0)
    assert may_begin(Work(), [pace] * 2, 2, times(), 1.0)


def test_may_begin_waits_until_own_pace_can_be_kept() -> None:
    other = AnswerPace(NO_PACE, 5, 1.0, 5)
    assert may_begin(Work(pace_s=0.02), [other], 0, times(), 1.0)
    assert not may_begin(Work(pace_s=0.02), [other, other], 0, times(), 1.0)
    assert not may_begin(Work(pace_s=0.02), [other], 0, times(), 1.5)  # the instance is slower than profiled
    assert may_begin(Work(pace_s=0.001), [], 0, times(), 1.0)  # alone it cannot be faster


def test_may_begin_keeps_pace_of_running_answers() -> None:
    running = AnswerPace(0.021, 1, 0.0, 100)  # has its first token, and 100 to come
    assert may_begin(Work(prompt_tokens=10), [running], 0, times(), 1.0)
    assert not may_begin(Work(prompt_tokens=200), [running], 0, times(), 1.0)  # 0.2 s on top of 2 s are too much
    ahead = AnswerPace(0.021, 60, 0.5, 40)  # made 60 tokens in the time of 24
    assert may_begin(Work(prompt_tokens=200), [ahead], 0, times(), 1.0)


@given(
    made=st.integers(0, 500), elapsed_s=st.floats(0, 10), left=st.integers(1, 500), step_s=st.floats(1e-4, 0.1),
    prompt_s=st.floats(0, 5), pace_s=st.floats(1e-4, 0.1),
)  # fmt: skip
def test_keeps_pace_is_true_only_if_mean_time_is_kept(
    made: int, elapsed_s: float, left: int, step_s: float, prompt_s: float, pace_s: float
) -> None:
    if keeps_pace(AnswerPace(pace_s, made, elapsed_s, left), prompt_s, step_s):
        tokens_after_first = max(made - 1, 0) + left
        assert (elapsed_s + prompt_s + left * step_s) / tokens_after_first <= pace_s * (1 + 1e-9)


@pytest.mark.parametrize("prompt_s", [0.0, 100.0])
def test_keeps_pace_is_true_without_need(prompt_s: float) -> None:
    assert keeps_pace(AnswerPace(NO_PACE, 1, 0.0, 1), prompt_s, 1.0)

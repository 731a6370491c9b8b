"""Tests of the sampler of answer times: workers add up, and a task has one row every five seconds."""

from datetime import UTC, datetime, timedelta

from autoscaler.record.answer_times import AnswerTimesSampler
from schemas.rows.samples import AnswerTimesSample

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_answer_times_sampler_adds_up_workers_for_five_seconds() -> None:
    sampler = AnswerTimesSampler()
    assert sampler.samples(AT) == []
    sampler.add({"digits": {7: 2, 9: 1}})
    assert sampler.samples(AT + timedelta(seconds=4)) == []
    sampler.add({"digits": {9: 3}, "text": {30: 1}})
    later = AT + timedelta(seconds=5)
    assert sampler.samples(later) == [
        AnswerTimesSample(at=later, task="digits", buckets=[7, 9], counts=[2, 4]),
        AnswerTimesSample(at=later, task="text", buckets=[30], counts=[1]),
    ]
    assert sampler.samples(later + timedelta(seconds=5)) == []

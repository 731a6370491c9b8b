"""Tests of `AnswerMeter`: answers by load class, and the times of online results by task."""

from schemas.answer_times import time_bucket
from schemas.load_classes import COARSEST, class_key
from schemas.query import Mode, Needs
from workers.serving.metrics import AnswerMeter

OFFLINE = class_key(Needs(mode=Mode.OFFLINE), None)


def test_answer_meter_has_times_of_online_results_only() -> None:
    meter = AnswerMeter()
    for seconds in (0.0101, 0.0102, 0.3):
        meter.computed("digits", COARSEST, seconds, late=False)
    meter.computed("text", COARSEST, 7.0, late=True)
    meter.computed("digits", OFFLINE, 3600.0, late=False)
    meter.failed("digits", COARSEST, 0)
    assert meter.take_times() == {
        "digits": {time_bucket(0.0101): 2, time_bucket(0.3): 1},
        "text": {time_bucket(7.0): 1},
    }
    assert meter.take_times() == {}
    assert sum(answers.queries for answers in meter.take()) == 6

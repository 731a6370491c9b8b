"""Tests of the retries of webhooks."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.retries import CallAgain, CallNoMore, RetryPolicy, WebhookAnswer, after_call, after_outage

POLICY = RetryPolicy(attempts=5, pause_s=2.0, max_pause_s=10.0)


def test_after_call_stops_if_delivered_or_gone() -> None:
    assert after_call(WebhookAnswer(204), 1, POLICY, 0.5) == CallNoMore("")
    assert after_call(WebhookAnswer(410), 1, POLICY, 0.5) == CallNoMore("it answered 410")


def test_after_call_retries_redirect() -> None:
    assert isinstance(after_call(WebhookAnswer(302), 1, POLICY, 0.5), CallAgain)


def test_after_call_names_reason_of_giving_up() -> None:
    step = after_call(WebhookAnswer(None, "no answer within 10 s"), 5, POLICY, 0.5)
    assert step == CallNoMore("given up after 5 attempts: no answer within 10 s")


def test_after_call_respects_retry_after() -> None:
    assert after_call(WebhookAnswer(503, retry_after_s=9.0), 1, POLICY, 0.0) == CallAgain(9.0, "it answered 503")
    again = after_call(WebhookAnswer(503, retry_after_s=1e9), 1, POLICY, 0.0)
    assert isinstance(again, CallAgain)
    assert again.pause_s == 10.0


def test_after_outage_retries_beyond_webhook_attempts() -> None:
    once = RetryPolicy(1, 2.0, 10.0)
    pauses = [after_outage("away", attempts, once, 0.5) for attempts in (1, 2, 3, 4, 5000)]
    assert pauses == [CallAgain(pause_s, "away") for pause_s in (2.0, 4.0, 8.0, 10.0, 10.0)]
    assert after_outage("away", 1, RetryPolicy(1, 20.0, 10.0), 1.0) == CallAgain(15.0, "away")


@given(st.integers(1, 4), st.floats(0, 1))
def test_after_call_pause_grows_with_jitter(attempts: int, chance: float) -> None:
    step = after_call(WebhookAnswer(500), attempts, POLICY, chance)
    assert isinstance(step, CallAgain)
    mean = min(2.0**attempts, 10.0)
    assert 0.5 * mean <= step.pause_s <= 1.5 * mean

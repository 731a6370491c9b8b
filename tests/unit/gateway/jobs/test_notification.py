"""Tests of the outcomes of webhook calls."""

import pytest

from gateway.jobs.notification import NoticeOutcome, WebhookAnswer, after_call
from process.backoff import Backoff
from schemas.jobs import NoticeState

MOST = 5
EXACT = Backoff(2.0, 10.0)
JITTERED = Backoff(2.0, 10.0, jitter=0.5)


@pytest.mark.parametrize(
    ("answer", "attempts", "outcome"),
    [
        (WebhookAnswer(204), 1, NoticeOutcome(NoticeState.DELIVERED)),
        (WebhookAnswer(410), 1, NoticeOutcome(NoticeState.FAILED, "it answered 410")),
        (WebhookAnswer(302), 1, NoticeOutcome(NoticeState.WAITING, "it answered 302", 2.0)),
        (WebhookAnswer(500), 3, NoticeOutcome(NoticeState.WAITING, "it answered 500", 8.0)),
        (
            WebhookAnswer(None, "no answer within 10 s"),
            MOST,
            NoticeOutcome(NoticeState.FAILED, "abandoned after 5 attempts: no answer within 10 s"),
        ),
        (WebhookAnswer(503, retry_after_s=9.0), 1, NoticeOutcome(NoticeState.WAITING, "it answered 503", 9.0)),
        (WebhookAnswer(503, retry_after_s=1e9), 1, NoticeOutcome(NoticeState.WAITING, "it answered 503", 10.0)),
    ],
    ids=["delivered", "gone", "redirect", "pause grows", "abandoned", "retry after", "retry after is limited"],
)
def test_after_call_returns_outcome(answer: WebhookAnswer, attempts: int, outcome: NoticeOutcome) -> None:
    assert after_call(answer, attempts, MOST, EXACT) == outcome


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
def test_after_call_varies_pause(attempts: int) -> None:
    pauses = {after_call(WebhookAnswer(500), attempts, MOST, JITTERED).pause_s for _ in range(50)}
    mean = min(2.0**attempts, 10.0)
    assert len(pauses) > 1
    assert all(0.5 * mean <= pause_s <= 1.5 * mean for pause_s in pauses)

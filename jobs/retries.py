"""When a webhook is called again, or a result handed on: pure, chance comes in.

Pauses double, and each is half to one and a half times as long, so that those who failed together come not together.
Whoever says that it is gone is believed at once; what else it answers may be a mistake of the day, and is called again.
"""

from typing import Final, NamedTuple

_GONE: Final = 410
_MOST_DOUBLED: Final = 100
"""Doublings after which any pause is at its limit, and a number has room left."""


class RetryPolicy(NamedTuple):
    """How often, and how far apart, a webhook is called."""

    attempts: int
    pause_s: float
    max_pause_s: float


class CallAgain(NamedTuple):
    """Decision to call again after a pause."""

    pause_s: float
    reason: str


class CallNoMore(NamedTuple):
    """Decision that this was the last call: the notice is delivered if there is no reason."""

    reason: str


class WebhookAnswer(NamedTuple):
    """What came of a call: a status, or why there is none."""

    status: int | None
    problem: str = ""
    retry_after_s: float = 0.0


def after_call(answer: WebhookAnswer, attempts: int, policy: RetryPolicy, chance: float) -> CallAgain | CallNoMore:
    """Decide what to do after so many calls, the present one included; `chance` is 0 to 1."""
    if answer.status is not None and 200 <= answer.status < 300:
        return CallNoMore("")
    reason = answer.problem or f"it answered {answer.status}"
    if answer.status == _GONE:
        return CallNoMore(reason)
    if attempts >= policy.attempts:
        return CallNoMore(f"given up after {attempts} attempts: {reason}")
    pause_s = _pause_s(attempts, policy, chance)
    return CallAgain(max(pause_s, min(answer.retry_after_s, policy.max_pause_s)), reason)


def after_outage(problem: str, attempts: int, policy: RetryPolicy, chance: float) -> CallAgain:
    """Decide what to do where Kafka took nothing: it is tried however often, since Kafka is ours and comes back."""
    return CallAgain(_pause_s(attempts, policy, chance), problem)


def _pause_s(attempts: int, policy: RetryPolicy, chance: float) -> float:
    return min(policy.pause_s * 2.0 ** min(attempts - 1, _MOST_DOUBLED), policy.max_pause_s) * (0.5 + chance)

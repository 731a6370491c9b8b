"""Retry times of webhooks and of forwarded results: pure, the random number is an argument.

Pauses double at each attempt and vary by a factor of 0.5 to 1.5, so that simultaneous failures are retried at different
times. Status 410 (gone) ends the retries at once; other errors may be temporary and are retried.
"""

from typing import Final, NamedTuple

_GONE: Final = 410
_MOST_DOUBLED: Final = 100
"""Maximum exponent of the pause: every pause has reached its limit, and a float does not overflow."""


class RetryPolicy(NamedTuple):
    """Number of attempts and pauses between them."""

    attempts: int
    pause_s: float
    max_pause_s: float


class CallAgain(NamedTuple):
    """Decision to retry after a pause."""

    pause_s: float
    reason: str


class CallNoMore(NamedTuple):
    """Decision to end the attempts; an empty reason means that the notice was delivered."""

    reason: str


class WebhookAnswer(NamedTuple):
    """Outcome of a webhook call: a status, or the problem that prevented one."""

    status: int | None
    problem: str = ""
    retry_after_s: float = 0.0


def after_call(answer: WebhookAnswer, attempts: int, policy: RetryPolicy, chance: float) -> CallAgain | CallNoMore:
    """Return the decision after `attempts` calls, including the present one; `chance` is a random number in 0..1."""
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
    """Return the decision after Kafka accepted nothing: retry without limit, since Kafka is part of the system."""
    return CallAgain(_pause_s(attempts, policy, chance), problem)


def _pause_s(attempts: int, policy: RetryPolicy, chance: float) -> float:
    return min(policy.pause_s * 2.0 ** min(attempts - 1, _MOST_DOUBLED), policy.max_pause_s) * (0.5 + chance)

"""Tests of pauses: exponential back-off, retries until a service is reachable, and idle polls."""

import asyncio
import math
from collections.abc import Iterable

import pytest

from process.backoff import Backoff, KeyedBackoff
from process.pauses import IdlePause, retry_until_reachable
from schemas.errors import NotFound, OperatorError, Overloaded

MINUTE = Backoff(first_s=1.0, longest_s=60.0)
AT_ONCE = Backoff(first_s=0.0, longest_s=0.0)
AWAY = OperatorError("away")


def test_backoff_doubles_up_to_the_longest_pause() -> None:
    assert [MINUTE.pause_s(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert MINUTE.pause_s(10**6) == 60
    assert MINUTE.pause_s(2, least_s=5.0) == 5
    assert MINUTE.pause_s(4, least_s=5.0) == 8


def test_backoff_jitter_varies_the_pause_within_its_share() -> None:
    pauses = {Backoff(first_s=8.0, longest_s=8.0, jitter=0.5).pause_s(1) for _ in range(100)}
    assert len(pauses) > 1
    assert min(pauses) >= 4
    assert max(pauses) <= 12


def test_keyed_backoff_grows_per_key_until_reset() -> None:
    backoff = KeyedBackoff(MINUTE, most=10)
    assert backoff.is_due("a", 0.0)
    backoff.failed("a", 0.0)
    assert not backoff.is_due("a", 0.9)
    assert backoff.is_due("a", 1.0)
    assert backoff.is_due("b", 0.0)
    for _ in range(10):
        backoff.failed("a", 100.0)
    assert not backoff.is_due("a", 159.9)
    assert backoff.is_due("a", 160.0)
    backoff.reset("a")
    assert backoff.is_due("a", 100.0)
    backoff.failed("a", 200.0, least_s=5.0)
    assert not backoff.is_due("a", 204.9)
    assert backoff.is_due("a", 205.0)


def test_keyed_backoff_forgets_the_oldest_failure() -> None:
    backoff = KeyedBackoff(MINUTE, most=3)
    for key in ("a", "b", "a", "c", "d"):
        backoff.failed(key, 0.0)
    assert len(backoff) == 3
    assert [key for key in "abcd" if not backoff.is_due(key, 0.0)] == ["a", "c", "d"]


class Service:
    """A service whose calls end in the given outcomes, one after the other."""

    def __init__(self, outcomes: Iterable[str | Exception]) -> None:
        self._outcomes = iter(outcomes)

    async def call(self) -> str:
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.parametrize(
    ("outcomes", "attempts", "patience_s", "expected"),
    [
        ((AWAY, AWAY, "done"), math.inf, 60.0, "done"),
        ((AWAY, NotFound("no such thing"), "done"), math.inf, 60.0, "no such thing"),
        ((ValueError("a defect"), "done"), math.inf, 60.0, "a defect"),
        ((AWAY, "done"), math.inf, -1.0, "away"),
        ((AWAY, AWAY, "done"), 2, 60.0, "away"),
        ((AWAY, AWAY, "done"), 3, 60.0, "done"),
    ],
)
async def test_retry_until_reachable_ends(
    outcomes: tuple[str | Exception, ...], attempts: float, patience_s: float, expected: str
) -> None:
    try:
        found = await retry_until_reachable(
            Service(outcomes).call,
            OperatorError,
            AT_ONCE,
            may_pass=lambda error: not isinstance(error, NotFound),
            attempts=attempts,
            patience_s=patience_s,
        )
    except (OperatorError, ValueError) as error:
        found = str(error)
    assert found == expected


async def test_retry_until_reachable_reports_errors_and_respects_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, slept_s = list[Exception](), list[float]()

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    outcomes = Overloaded(retry_after_s=5.0), Overloaded(retry_after_s=0.5), "done"
    await retry_until_reachable(Service(outcomes).call, Overloaded, Backoff(1.0, 60.0), failed=errors.append)
    assert errors == list(outcomes[:2])
    assert slept_s == [5.0, 2.0], "the longer of the back-off and what the service says"


def test_idle_pause_doubles_while_nothing_is_found() -> None:
    pause = IdlePause(0.5)
    assert [pause.after(found) for found in (False,) * 6] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert [pause.after(found) for found in (True, False, False, True)] == [0.5, 1.0, 2.0, 0.5]

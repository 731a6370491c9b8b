"""Tests of retries until a service is reachable, and idle polls."""

import asyncio
import math
from collections.abc import Iterable

import pytest

from process.backoff import Backoff
from process.pauses import IdlePause, retry_until_reachable
from schemas.errors import NotFound, OperatorError, Overloaded

AT_ONCE = Backoff(first_s=0.0, longest_s=0.0)
AWAY = OperatorError("away")


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


async def test_retry_until_reachable_reports_errors_that_it_retries() -> None:
    errors = list[OperatorError]()
    await retry_until_reachable(Service((AWAY, "done")).call, OperatorError, AT_ONCE, failed=errors.append)
    assert errors == [AWAY]


async def test_retry_until_reachable_respects_retry_after() -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await retry_until_reachable(Service((Overloaded(retry_after_s=0.05), "done")).call, Overloaded, AT_ONCE)
    assert loop.time() - began_s >= 0.04


def test_idle_pause_doubles_while_nothing_is_found() -> None:
    pause = IdlePause(0.5)
    assert [pause.after(found) for found in (False,) * 6] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert [pause.after(found) for found in (True, False, False, True)] == [0.5, 1.0, 2.0, 0.5]

"""Tests of the time at which a worker leaves to be replaced."""

import asyncio

import pytest

from store.errors import StoreUnavailable
from store.placement import TakeOver
from tests.waiting import PATIENCE_S
from workers.replacement import Replacement

ALONE_S = 0.5
"""Equal to the pause between two requests to other workers."""


class Others:
    """Other workers that answer with these states in order, and repeat the last one."""

    def __init__(self, *states: TakeOver | Exception) -> None:
        self._states = iter(states)
        self._last: TakeOver | Exception = TakeOver.WAITING
        self.asked = 0

    async def take_over(self) -> TakeOver:
        self.asked += 1
        self._last = next(self._states, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        ((TakeOver.ALONE, TakeOver.ALONE), 2),
        ((TakeOver.ALONE, TakeOver.WAITING, TakeOver.DONE), 3),
        ((TakeOver.WAITING, StoreUnavailable("away"), TakeOver.DRAINING, TakeOver.DONE), 4),
    ],
)
async def test_replacement_waits_until_others_take_over(states: tuple[TakeOver, ...], asked: int) -> None:
    replacement, others = Replacement(), Others(*states)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(replacement.until_taken_over(PATIENCE_S, ALONE_S, lambda: False, others.take_over))
        await asyncio.sleep(0)
        assert (others.asked, waiting.done()) == (0, False), "nobody has asked for it"
        replacement.ask("a batch does not end")
    assert (others.asked, replacement.wanted, replacement.leaves) == (asked, True, False)


async def test_replacement_leaves_after_timeout_or_without_slots() -> None:
    for timeout_s, held_up in ((0.0, False), (PATIENCE_S, True)):
        replacement, others = Replacement(), Others(TakeOver.DRAINING)
        replacement.ask("a batch does not end")
        async with asyncio.timeout(PATIENCE_S / 2):
            await replacement.until_taken_over(timeout_s, ALONE_S, lambda held_up=held_up: held_up, others.take_over)
        assert others.asked == 0


async def test_replacement_at_once_does_not_wait() -> None:
    replacement, others = Replacement(), Others(TakeOver.DRAINING)
    async with asyncio.timeout(PATIENCE_S / 2), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(replacement.until_taken_over(PATIENCE_S, ALONE_S, lambda: False, others.take_over))
        replacement.ask("a batch does not end")
        await asyncio.sleep(0)
        assert (others.asked, waiting.done()) == (1, False)
        replacement.ask_at_once("the model fails whatever it is given")
        for _ in range(10):
            await asyncio.sleep(0)
        assert (others.asked, waiting.done()) == (1, True)

"""Rounds of a bench, each between two runs of a calibration loop, which shows changes of the machine's speed.

The loop computes the same hashes on all cores at once. Its time grows with other work on the machine, a lower clock
rate, and time that a hypervisor takes. Rounds of another speed are taken again, and each figure records the rest.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Final, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from bench.core.figures import Figure

ROUNDS: Final = 5
MOST_DRIFT: Final = 0.1
"""Difference of a round's loop from the median of all rounds, over the median, beyond which it is taken again."""
_HASHES: Final = 500_000
"""About 0.1 s of a core."""

Taken = TypeVar("Taken")


async def loop_on_all_cores() -> float:
    """Run the calibration loop on each core. Returns the mean of their seconds."""
    cores = len(os.sched_getaffinity(0))
    return fmean(await asyncio.gather(*(asyncio.to_thread(_loop_s) for _ in range(cores))))


def _loop_s() -> float:
    """Return the seconds of the loop, which does not hold the interpreter's lock, so that threads run at once."""
    began_s = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"", b"", _HASHES)
    return time.perf_counter() - began_s


class Rounds(NamedTuple, Generic[Taken]):
    """Results of rounds."""

    taken: list[Taken]
    loops_s: list[float]
    """Seconds of the calibration loop at each round, the slower one of those before and after it."""
    repeated: int = 0
    """Rounds that were taken again; at most as many as there are results."""

    @property
    def drift(self) -> float | None:
        """Largest difference of a loop from their median, over the median; None for a single round."""
        return max(_drifts(self.loops_s)) if len(self.loops_s) > 1 else None

    def of(self, figures: Iterable[Figure]) -> list[Figure]:
        """Return the figures of these rounds with the state of the machine."""
        return [replace(figure, drift=self.drift, repeated=self.repeated) for figure in figures]


async def take_rounds(
    take: Callable[[int], Awaitable[Taken]],
    count: int = ROUNDS,
    loop: Callable[[], Awaitable[float]] = loop_on_all_cores,
) -> Rounds[Taken]:
    """Take rounds, and some of them again.

    Args:
        take: measures both sides once; its argument is the number of the round, from 0.
        count: results to return.
        loop: runs the calibration loop, and returns its seconds.
    """

    async def take_one(number: int) -> tuple[Taken, float]:
        before_s = await loop()
        taken = await take(number)
        return taken, max(before_s, await loop())

    rounds = [await take_one(number) for number in range(count)]
    repeated = 0
    while repeated < count and (odd := odd_one([loop_s for _, loop_s in rounds])) is not None:
        rounds[odd] = await take_one(count + repeated)
        repeated += 1
    return Rounds([taken for taken, _ in rounds], [loop_s for _, loop_s in rounds], repeated)


def odd_one(loops_s: Sequence[float]) -> int | None:
    """Return the index of the loop that differs most from the median, if too much; None if none does."""
    drifts = _drifts(loops_s)
    worst = max(drifts)
    return drifts.index(worst) if worst > MOST_DRIFT else None


def _drifts(loops_s: Sequence[float]) -> list[float]:
    """Return the difference of each loop from their median, over the median."""
    middle_s = median(loops_s)
    return [abs(loop_s / middle_s - 1) for loop_s in loops_s]

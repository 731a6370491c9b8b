"""Reads offline work with a deadline from the jobs, every few seconds: a reading counts up to 100,000 of them."""

from math import inf
from typing import Final

import msgspec

from schemas.jobs import DatedWork
from store.jobs import dated_work
from store.pool import Pool

INTERVAL_S: Final = 10.0
_WITHIN_S: Final = 86_400.0
"""Longest completion window; a later deadline asks for no more than none."""


class DatedWorkReader:
    """Reader of the offline work with a deadline; times are monotonic seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found = list[DatedWork]()
        self._read_s = -inf

    async def read(self, now_s: float) -> list[DatedWork]:
        """Return the work, counted within the last `INTERVAL_S`, with the time that is left now.

        Raises:
            StoreUnavailable: Postgres is unavailable.
        """
        if now_s - self._read_s >= INTERVAL_S:
            self._found, self._read_s = await dated_work(self._pool, _WITHIN_S), now_s
        passed_s = now_s - self._read_s
        return [
            msgspec.structs.replace(work, left_s=work.left_s - passed_s)
            for work in self._found
            if work.left_s > passed_s
        ]

"""Watch over partitions that nobody reads: a gauge, an alarm in the log, and the reason why a service is not ready.

A member that has just joined is not ready before each partition of its group has a reader. From then on moves are part
of the day, and only partitions without a reader for some seconds are a problem; the members mend it meanwhile
(`membership`).
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from prometheus_client import Gauge

log = logging.getLogger(__name__)

UNREAD: Final = Gauge(
    "infaas_unread_partitions",
    "Partitions of our topics without a reader, as far as a member knows.",
    ["consumer_group"],
)
ALARM_S: Final = 5.0
"""Seconds without a reader that are an alarm: longer than a move takes."""
_LOOK_S: Final = 0.25


class UnreadWatch:
    """Watch over the partitions of one group; `run` until cancelled."""

    def __init__(self, group: str, unread: Callable[[], int | None]) -> None:
        """`unread` counts partitions without a reader; None: this process is no member of the group."""
        self._group = group
        self._unread = unread
        self._began: float | None = None
        """Time since which something is wrong."""
        self._was_whole = False
        self._alarmed = False
        self.problem = ""
        """Reason why the service is not ready; empty if it is."""

    async def run(self) -> None:
        """Look now and then."""
        clock = asyncio.get_running_loop().time
        while True:
            self.look(clock())
            await asyncio.sleep(_LOOK_S)

    def look(self, now: float) -> None:
        """Look at the group; `now` is of a monotonic clock, in seconds."""
        unread = self._unread()
        UNREAD.labels(self._group).set(math.nan if unread is None else unread)
        if unread == 0:
            if self._alarmed:
                log.info("group %s: each partition has a reader again", self._group)
            self._began, self._was_whole, self._alarmed, self.problem = None, True, False, ""
            return
        words = (
            f"it is no member of group {self._group}"
            if unread is None
            else f"{unread} partitions of group {self._group} have no reader"
        )
        self._began = now if self._began is None else self._began
        lasts = now - self._began > ALARM_S
        if lasts and not self._alarmed:
            log.error("%s for %.0f s: is each of its members alive?", words, ALARM_S)
            self._alarmed = True
        self.problem = words if lasts or not self._was_whole else ""

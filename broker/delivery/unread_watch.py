"""Watch for partitions without a reader: a gauge, an alarm in the log, and the reason why a service is not ready.

A member that has just joined is not ready before each partition of its group has a reader. After that, moves are
normal, and only partitions without a reader for some seconds are a problem. The members repair it meanwhile
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
    "Partitions without a reader, as known to a member of the group.",
    ["consumer_group"],
)
ALARM_S: Final = 5.0
"""Seconds without a reader after which there is an alarm; a move takes less."""
_LOOK_S: Final = 0.25


class UnreadWatch:
    """Watch over the partitions of one group; `run` until cancelled."""

    def __init__(self, group: str, unread: Callable[[], int | None]) -> None:
        """Watch a group; `unread` returns its partitions without a reader, or None if this process is no member."""
        self._group = group
        self._unread = unread
        self._began: float | None = None
        """Time since which there is a problem."""
        self._was_whole = False
        self._alarmed = False
        self.problem = ""
        """Reason why the service is not ready; empty if it is."""

    async def run(self) -> None:
        """Check the group at intervals, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self.look(clock())
            await asyncio.sleep(_LOOK_S)

    def look(self, now: float) -> None:
        """Check the group; `now` is the time of a monotonic clock, in seconds."""
        unread = self._unread()
        UNREAD.labels(self._group).set(math.nan if unread is None else unread)
        if unread == 0:
            if self._alarmed:
                log.info("group %s: each partition has a reader again", self._group)
            self._began, self._was_whole, self._alarmed, self.problem = None, True, False, ""
            return
        words = (
            f"it is not a member of group {self._group}"
            if unread is None
            else f"{unread} partitions of group {self._group} have no reader"
        )
        self._began = now if self._began is None else self._began
        lasts = now - self._began > ALARM_S
        if lasts and not self._alarmed:
            log.error("%s for %.0f s: are all its members alive?", words, ALARM_S)
            self._alarmed = True
        self.problem = words if lasts or not self._was_whole else ""

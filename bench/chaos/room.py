"""Disk and memory of a campaign, bounded however long it runs.

Kafka deletes results, statuses and dead letters after ten minutes instead of hours or weeks; queries are deleted when
they are done, as always. The logs of processes are not rotated, so the campaign cuts their beginning.
"""

from pathlib import Path
from typing import Final

import psutil

_KEPT_MS: Final = 600_000
"""Longer than a client waits for an answer, and than any fault lasts."""
SHORT_RETENTION: Final = {
    "INFAAS_KAFKA_RETENTION_MS": str(_KEPT_MS),
    "INFAAS_KAFKA_DEAD_LETTER_RETENTION_MS": str(_KEPT_MS),
}
"""Environment of a system with short retention."""
_MOST_LOG_BYTES: Final = 16 * 2**20
_KEPT_LOG_BYTES: Final = 2**20


_LOGS: Final = ("logs/*.log", "*/kafka.log", "*/postgres.log")
"""Logs of processes, relative to a system's folder; Kafka's segments also have the suffix `.log`."""


def cut_logs(home: Path, most_bytes: int = _MOST_LOG_BYTES, kept_bytes: int = _KEPT_LOG_BYTES) -> None:
    """Cut each log of a system that exceeds a size to its end; lines written at the same time may be lost.

    Processes continue at the new end, because they opened the log in append mode.
    """
    for log in (log for pattern in _LOGS for log in home.glob(pattern)):
        if log.stat().st_size > most_bytes:
            with log.open("rb") as file:
                file.seek(-kept_bytes, 2)
                end = file.read()
            log.write_bytes(end)


def disk_mib(folder: Path) -> float:
    """Return the size of a folder in MiB; files deleted during the count are ignored."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total / 2**20


def own_mib() -> float:
    """Return the resident memory in MiB of this process, with the clients and the ledger."""
    return psutil.Process().memory_info().rss / 2**20

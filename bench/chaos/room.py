"""The disk and the memory that a campaign takes, however long it runs.

Kafka deletes results, statuses and dead letters after some minutes instead of an hour and weeks; queries it deletes
when they are done, as always. Logs of processes, which nobody rotates for them, lose their beginning.
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
"""Environment of a system that keeps little."""
_MOST_LOG_BYTES: Final = 16 * 2**20
_KEPT_LOG_BYTES: Final = 2**20


_LOGS: Final = ("logs/*.log", "*/kafka.log", "*/postgres.log")
"""Where processes log, below the folder of a system; Kafka's segments are called `*.log`, too."""


def cut_logs(home: Path, most_bytes: int = _MOST_LOG_BYTES, kept_bytes: int = _KEPT_LOG_BYTES) -> None:
    """Leave the end of each log of a system that has grown beyond a size; what is written meanwhile may be lost.

    Processes go on writing where the log ends: they have opened it to append.
    """
    for log in (log for pattern in _LOGS for log in home.glob(pattern)):
        if log.stat().st_size > most_bytes:
            with log.open("rb") as file:
                file.seek(-kept_bytes, 2)
                end = file.read()
            log.write_bytes(end)


def disk_mib(folder: Path) -> float:
    """What is in a folder, in MiB; files that go meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total / 2**20


def own_mib() -> float:
    """Resident memory of this process, which asks and keeps the books, in MiB."""
    return psutil.Process().memory_info().rss / 2**20

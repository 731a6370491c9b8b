"""Resources of a system under faults: open files, tables, topics, disk and memory. They must not grow with its faults.

Disk is bounded however long a campaign runs: Kafka deletes results, statuses and dead letters after ten minutes instead
of hours or weeks, and the campaign cuts the logs of processes, which are not rotated.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import psutil
from aiokafka.admin import AIOKafkaAdminClient

from store.pool import open_pool
from tests.chaos.site import Site

_TABLES: Final = """
SELECT array_agg(relname::text) FROM pg_stat_user_tables
"""
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


class ResourceUse(msgspec.Struct, frozen=True, kw_only=True):
    """Resources at one moment."""

    open_files: dict[str, int]
    """Open file descriptors by kind of process."""
    rows: dict[str, int]
    """Rows by table; empty tables are left out."""
    topics: int
    partitions: int


async def measure_resources(site: Site, kafka: str) -> ResourceUse:
    """Count what a running system holds."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    async with open_pool(site.system.postgres, max_size=1) as pool:
        tables = await pool.fetch_value(list[str], _TABLES) or []
        rows = {name: await pool.fetch_value(int, f'SELECT count(*) FROM "{name}"') or 0 for name in sorted(tables)}
    return ResourceUse(
        open_files=await asyncio.to_thread(site.open_files),
        rows={name: count for name, count in rows.items() if count},
        topics=len(topics),
        partitions=sum(len(topic["partitions"]) for topic in topics),
    )


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

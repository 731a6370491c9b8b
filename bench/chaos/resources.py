"""Resources that a system holds: open files, tables and topics. They must not grow with its faults."""

import asyncio
from typing import Final

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from bench.chaos.site import Site
from store.pool import open_pool

_TABLES: Final = """
SELECT array_agg(relname::text) FROM pg_stat_user_tables
"""


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

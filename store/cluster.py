"""All rows of what is wanted of the cluster and what it has, read as of one moment.

Read one after the other, a number of workers and the drain that was written with it may be seen apart: who acts on that
drains or starts one too many, and who shows it shows what never was.
"""

import msgspec

from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.rows.scaling import Pin, ScaleControl, WantedWorkers
from store.placement import list_instances, list_workers
from store.pool import Pool
from store.scaling import get_control, list_pins, list_wanted


class ClusterRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of what people and the autoscaler want of the cluster, and of what it has."""

    control: ScaleControl
    wanted: list[WantedWorkers]
    workers: list[WorkerRow]
    instances: list[InstanceRow]
    pins: list[Pin]


async def read_cluster(pool: Pool) -> ClusterRows:
    """Read the rows of the cluster as they are now.

    Raises:
        StoreUnavailable: Postgres is away.
    """
    async with pool.snapshot() as session:
        return ClusterRows(
            control=await get_control(session),
            wanted=await list_wanted(session),
            workers=await list_workers(session),
            instances=await list_instances(session),
            pins=await list_pins(session),
        )

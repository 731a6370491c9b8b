"""All rows of what is wanted of the cluster and what it has, read as of one moment.

Read one after the other, a number of workers and the drain that was written with it may be seen apart: who acts on that
drains or starts one too many, and who shows it shows what never was.
"""

from schemas.rows.cluster import ClusterRows
from store.placement import list_instances, list_workers
from store.pool import Pool
from store.scaling import get_control, list_pins, list_wanted


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

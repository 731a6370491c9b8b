"""Wanted and actual state of the cluster, read in one snapshot.

Separate reads could see the new number of workers without the drain that was written with it. The autoscaler would then
drain or start one worker too many, and a display would show a state that never existed.
"""

from schemas.rows.cluster import ClusterRows
from store.placement import list_instances, list_workers
from store.pool import Pool
from store.scaling import get_control, list_pins, list_wanted


async def read_cluster(pool: Pool) -> ClusterRows:
    """Read the rows of the cluster in one snapshot.

    Raises:
        StoreUnavailable: Postgres is unavailable.
    """
    async with pool.snapshot() as session:
        return ClusterRows(
            control=await get_control(session),
            wanted=await list_wanted(session),
            workers=await list_workers(session),
            instances=await list_instances(session),
            pins=await list_pins(session),
        )

"""All rows of what is wanted of the cluster and what it has, as of one moment."""

import msgspec

from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.rows.scaling import Pin, ScaleControl, WantedWorkers


class ClusterRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of what people and the autoscaler want of the cluster, and of what it has."""

    control: ScaleControl
    wanted: list[WantedWorkers]
    workers: list[WorkerRow]
    instances: list[InstanceRow]
    pins: list[Pin]

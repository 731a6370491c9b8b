"""Wanted and actual state of the cluster in one snapshot."""

import msgspec

from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.rows.scaling import Pin, ScaleControl, WantedWorkers


class ClusterRows(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted scale with its pins and pause, and actual workers and instances."""

    control: ScaleControl
    wanted: list[WantedWorkers]
    workers: list[WorkerRow]
    instances: list[InstanceRow]
    pins: list[Pin]

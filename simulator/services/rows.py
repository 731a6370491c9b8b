"""Rows of the cluster in memory, with the transitions that the statements of the store make in Postgres."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from autoscaler.decide.plan import InstanceChange
from schemas.rows.cluster import ClusterRows, InstanceRow, Pin, ScaleControl, WantedWorkers, WorkerRow
from schemas.status import InstanceState
from simulator.catalogue import CatalogueHardware

_AT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_RUNNING: Final = ScaleControl(paused=False, changed_by="", changed_at=_AT)


class _Worker:
    """Row of a worker, with the times that the database computes ages from."""

    __slots__ = ("beats", "draining_since", "heartbeat_s", "row")

    def __init__(self, row: WorkerRow, now: float) -> None:
        self.row = row
        self.heartbeat_s = now
        self.beats = True
        """True while its process renews the heartbeat each second."""
        self.draining_since: float | None = None


class SimulatedRows:
    """Tables `workers`, `instances`, `wanted_workers` and `scale_pins`."""

    def __init__(self, pins: Iterable[Pin], heartbeat_timeout_s: float) -> None:
        self._pins = list(pins)
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._workers: dict[str, _Worker] = {}
        self._instances: dict[tuple[str, str], InstanceRow] = {}
        self._wanted: dict[str, tuple[WantedWorkers, float]] = {}

    def read(self, now: float) -> ClusterRows:
        """Return all rows as of `now`."""
        return ClusterRows(
            control=_RUNNING,
            wanted=[replace(row, age_s=now - since_s) for _, (row, since_s) in sorted(self._wanted.items())],
            workers=[self._read_worker(kept, now) for _, kept in sorted(self._workers.items())],
            instances=[row for _, row in sorted(self._instances.items())],
            pins=self._pins,
        )

    def _read_worker(self, kept: _Worker, now: float) -> WorkerRow:
        if kept.beats:
            kept.heartbeat_s = now
        since_s = kept.draining_since
        return replace(
            kept.row,
            alive=now - kept.heartbeat_s < self._heartbeat_timeout_s,
            draining=since_s is not None,
            draining_s=0.0 if since_s is None else now - since_s,
        )

    # -- workers -------------------------------------------------------------------------------------------------------

    def register_worker(
        self, name: str, hardware: CatalogueHardware, runtimes: tuple[str, ...], epoch: int, now: float
    ) -> None:
        """Add the row of a worker that has started, or update it: one that died while it drained drains on."""
        row = WorkerRow(
            name=name, hardware=hardware.name, device=hardware.name, host=name, slots=hardware.slots,
            threads=hardware.threads, memory_bytes=hardware.memory_bytes, price_per_hour=hardware.price_per_hour,
            runtimes=runtimes, epoch=epoch, heartbeat_at=_AT,
        )  # fmt: skip
        before = self._workers.get(name)
        self._workers[name] = _Worker(row, now)
        if before is not None:
            self._workers[name].draining_since = before.draining_since

    def stop_heartbeat(self, name: str, now: float) -> None:
        """Note that the process of a worker has ended without a word."""
        kept = self._workers.get(name)
        if kept is not None:
            kept.beats, kept.heartbeat_s = False, now

    def retire_worker(self, name: str) -> None:
        """Remove the row of a worker that has ended."""
        self._workers.pop(name, None)

    def drain_workers(self, names: Iterable[str], now: float) -> None:
        """Drain workers."""
        for name in names:
            kept = self._workers.get(name)
            if kept is not None and kept.draining_since is None:
                kept.draining_since = now

    def undrain_worker(self, name: str) -> None:
        """Stop the draining of a worker."""
        kept = self._workers.get(name)
        if kept is not None:
            kept.draining_since = None

    def put_wanted(self, wanted: Iterable[WantedWorkers], now: float) -> None:
        """Store wanted numbers of workers."""
        for row in wanted:
            self._wanted[row.hardware] = row, now

    # -- instances -----------------------------------------------------------------------------------------------------

    def of_worker(self, worker: str) -> dict[str, InstanceRow]:
        """Return the rows of a worker's instances, by variant."""
        return {variant: row for (variant, name), row in sorted(self._instances.items()) if name == worker}

    def of_variant(self, variant: str) -> dict[str, InstanceRow]:
        """Return the rows of a variant's instances, by worker."""
        return {worker: row for (name, worker), row in self._instances.items() if name == variant}

    def change_instances(self, changes: Iterable[InstanceChange]) -> None:
        """Write the rows of a plan; a state that a worker has reported is kept."""
        for change in changes:
            key = change.variant, change.worker
            if change.wanted is None:
                self._instances.pop(key, None)
            else:
                before = self._instances.get(key)
                state = InstanceState.INACTIVE if before is None else before.state
                self._instances[key] = replace(change.wanted, state=state)

    def report_state(self, variant: str, worker: str, state: InstanceState) -> None:
        """Store the state that a worker reports of an instance."""
        row = self._instances.get((variant, worker))
        if row is not None:
            self._instances[variant, worker] = replace(row, state=state)

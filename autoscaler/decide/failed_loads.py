"""Instances that failed to load: where and why, and which variants no live worker can load.

The row of a failed instance is kept as long as its worker, so that the worker is not given the variant again. A worker
that restarts under its name tries again and updates the row.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from schemas.hardware import slots_taken
from schemas.rows.catalog import Profile, Variant
from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.status import InstanceState


def failed_by_worker(instances: Iterable[InstanceRow]) -> dict[str, frozenset[str]]:
    """Return the variants that failed to load, by worker."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in instances:
        if row.state is InstanceState.FAILED:
            found[row.worker].add(row.variant)
    return {worker: frozenset(variants) for worker, variants in found.items()}


def unloadable_variants(
    variants: Mapping[str, Variant],
    profiles: Mapping[str, Profile],
    workers: Iterable[WorkerRow],
    instances: Iterable[InstanceRow],
) -> dict[str, str]:
    """Return the variants that every suitable live worker has failed to load, with the reason."""
    failed: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in instances:
        if row.state is InstanceState.FAILED and row.variant in variants:
            failed[row.variant][row.worker] = row.reason
    if not failed:
        return {}
    living = [worker for worker in workers if worker.alive]
    found: dict[str, str] = {}
    for name, reasons in failed.items():
        able = [worker.name for worker in living if _is_for(worker, variants[name], profiles.get(name))]
        if able and all(worker in reasons for worker in able):
            found[name] = reasons[able[0]]
    return found


def _is_for(worker: WorkerRow, variant: Variant, profile: Profile | None) -> bool:
    """Return true if a worker has the variant's hardware and runtime, and enough slots."""
    if worker.hardware != variant.hardware or variant.runtime not in worker.runtimes:
        return False
    return profile is None or slots_taken(worker.hardware, profile.threads, worker.threads) <= worker.slots

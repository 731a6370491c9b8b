"""Instances that could not be loaded: where, why, and which variants no live worker can load at all.

The row of a failed instance stays as long as its worker does: it is what tells that this worker need not be given the
variant again. A worker that starts anew under its name tries again, and says so in the row.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from schemas.rows.catalog import Variant
from schemas.rows.placement import InstanceRow, WorkerRow
from schemas.status import InstanceState


def failed_by_worker(instances: Iterable[InstanceRow]) -> dict[str, frozenset[str]]:
    """Variants that could not be loaded, by worker."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in instances:
        if row.state is InstanceState.FAILED:
            found[row.worker].add(row.variant)
    return {worker: frozenset(variants) for worker, variants in found.items()}


def unloadable_variants(
    variants: Mapping[str, Variant], workers: Iterable[WorkerRow], instances: Iterable[InstanceRow]
) -> dict[str, str]:
    """Reasons why variants cannot be loaded which every live worker that could run them has failed to load."""
    failed: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in instances:
        if row.state is InstanceState.FAILED and row.variant in variants:
            failed[row.variant][row.worker] = row.reason
    if not failed:
        return {}
    living = [worker for worker in workers if worker.alive]
    found: dict[str, str] = {}
    for name, reasons in failed.items():
        variant = variants[name]
        able = [w.name for w in living if w.hardware == variant.hardware and variant.runtime in w.runtimes]
        if able and all(worker in reasons for worker in able):
            found[name] = reasons[able[0]]
    return found

"""Compares a shadow's answers to copied queries with the answers that clients got from the serving version.

Both results of a query arrive on `infaas.shadows`, in any order. The first one waits for the second. The number of
waiting results is bounded, and the oldest are dropped: a lost copy is no comparison. Comparisons are added to the rows
of `version_comparisons` periodically; during an outage of Postgres they are kept in memory.
"""

import logging
from collections import OrderedDict
from typing import Final

from broker.kafka.types import Record
from registry.quality import AGREEMENT, quality
from schemas.catalog import Catalog
from schemas.errors import InfaasError
from schemas.headers import as_text
from schemas.oip import decode_response
from schemas.result import OK, Result, parse_result
from schemas.versions import VersionComparison
from store.errors import StoreConflict, StoreUnavailable
from store.pool import Pool
from store.rollouts import add_comparisons

log = logging.getLogger(__name__)

_MOST_WAITING: Final = 10_000
"""Maximum number of results that wait for their counterpart."""
_MOST_BYTES: Final = 64 << 20
"""Maximum bytes of these."""


class ShadowComparer:
    """Comparer of one term of leadership."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Result] = OrderedDict()
        self._bytes = 0
        """Bytes of the waiting results' values."""
        self._compared: dict[tuple[str, int, int], VersionComparison] = {}
        """Comparisons not written yet, by model and both versions."""

    def take(self, record: Record, catalog: Catalog) -> None:
        """Add a result of either version."""
        try:
            result = parse_result(as_text(record.headers), record.value or b"")
        except (KeyError, ValueError):
            return  # not a result: any client may write to the topic
        other = self._waiting.pop(result.id, None)
        self._bytes -= 0 if other is None else len(other.value)
        if other is None or other.variant == result.variant:
            self._wait(result)
            return
        found = comparison(catalog, result, other)
        if found is not None:
            self._add(found)

    def _add(self, found: VersionComparison) -> None:
        key = found.model, found.version, found.against
        self._compared[key] = found + self._compared[key] if key in self._compared else found

    def _wait(self, result: Result) -> None:
        self._waiting[result.id] = result
        self._bytes += len(result.value)
        while len(self._waiting) > _MOST_WAITING or self._bytes > _MOST_BYTES:
            _, oldest = self._waiting.popitem(last=False)
            self._bytes -= len(oldest.value)

    async def write(self, pool: Pool) -> None:
        """Write the comparisons made since the last call."""
        if not self._compared:
            return
        compared, self._compared = self._compared, {}
        try:
            await add_comparisons(pool, compared.values())
        except StoreConflict as error:
            log.warning("dropping comparisons, because a version of theirs was removed: %s", error)
        except StoreUnavailable:
            for found in compared.values():  # retried with the next call
                self._add(found)


def comparison(catalog: Catalog, one: Result, other: Result) -> VersionComparison | None:
    """Return the comparison of two results of a query; None unless one is the candidate's of a rollout."""
    rows = [catalog.architectures.get(result.variant.partition(".")[0]) for result in (one, other)]
    first, second = rows
    if first is None or second is None or first.model != second.model or first.version == second.version:
        return None
    rollout = catalog.rollouts.get(first.model)
    if rollout is None:
        return None
    if second.version == rollout.candidate:
        (one, first), (other, second) = (other, second), (one, first)
    if first.version != rollout.candidate:
        return None
    task = catalog.tasks.get(first.task)
    return VersionComparison(
        model=first.model,
        version=first.version,
        against=second.version,
        compared=1,
        failed=int(one.status != OK),
        agreed=_agreement(task.measured_output if task is not None else "", one, other),
        compute_s=one.compute_ns / 1e9,
        against_compute_s=other.compute_ns / 1e9,
    )


def _agreement(measured: str, one: Result, other: Result) -> float:
    """Return the share of a query's inputs with equal answers, by the task's measured output."""
    if one.status != OK or other.status != OK:
        return 0.0
    try:
        ours, theirs = (decode_response(r.value, r.json_length).outputs for r in (one, other))
        name = measured if measured in theirs else next(iter(theirs))
        return quality(AGREEMENT, ours[name], theirs[name])
    except (InfaasError, KeyError, StopIteration, TypeError, ValueError) as error:
        log.warning("cannot compare the results of query %s: %s", one.id[:80], error)
        return 0.0

"""Compares what a version answered copies of queries with what clients were answered by the version that serves.

Both results of a query come to `infaas.shadows`, in whatever order; the one that comes first waits for the other, a
bounded number of them and the oldest given up first: a copy that was lost is no comparison. What is known is added to
the rows of `version_comparisons` now and then; between two writes an outage of Postgres loses nothing.
"""

import logging
from collections import OrderedDict
from typing import Final

from broker.kafka_types import Record
from registry.quality import AGREEMENT, quality
from schemas.errors import InfaasError
from schemas.headers import as_text
from schemas.oip import decode_response
from schemas.result import OK, Result, parse_result
from schemas.rows.rollout import VersionComparison
from store.catalog import Catalog
from store.errors import StoreConflict, StoreUnavailable
from store.pool import Pool
from store.rollouts import add_comparisons

log = logging.getLogger(__name__)

_MOST_WAITING: Final = 10_000
"""Results that wait for the other of their query."""
_MOST_BYTES: Final = 64 << 20
"""Bytes of these."""


class ShadowComparer:
    """Comparer of one term of lead."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Result] = OrderedDict()
        self._bytes = 0
        """Of the values of those that wait."""
        self._compared: dict[tuple[str, int, int], VersionComparison] = {}
        """Not yet written, by model and both versions."""

    def take(self, record: Record, catalog: Catalog) -> None:
        """Take a result of either version."""
        try:
            result = parse_result(as_text(record.headers), record.value or b"")
        except (KeyError, ValueError):
            return  # not of ours: anybody may write there
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
        """Add what was compared since the last time to what is known."""
        if not self._compared:
            return
        compared, self._compared = self._compared, {}
        try:
            await add_comparisons(pool, compared.values())
        except StoreConflict as error:
            log.warning("comparisons are forgotten, since one of their versions went meanwhile: %s", error)
        except StoreUnavailable:
            for found in compared.values():  # next time
                self._add(found)


def comparison(catalog: Catalog, one: Result, other: Result) -> VersionComparison | None:
    """The comparison of two results of one query; None where they are not of two versions of a model."""
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
    """Share of a query's inputs of which both came out the same, by the task's measured output."""
    if one.status != OK or other.status != OK:
        return 0.0
    try:
        ours, theirs = (decode_response(r.value, r.json_length).outputs for r in (one, other))
        name = measured if measured in theirs else next(iter(theirs))
        return quality(AGREEMENT, ours[name], theirs[name])
    except (InfaasError, KeyError, StopIteration, TypeError, ValueError) as error:
        log.warning("cannot compare the results of query %s: %s", one.id[:80], error)
        return 0.0

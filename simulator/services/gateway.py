"""A simulated gateway: the production limits of queries in flight, and its refusals after a selector's."""

from typing import Final

from gateway.limits.admission import Admission
from gateway.limits.concurrency import ConcurrencyLimits
from schemas.errors import Overloaded, RefusalReason
from schemas.query import MAX_REJECTED_UPSTREAM
from simulator.cluster.query import SimulatedQuery
from simulator.outcomes import QueryOutcome

_ANSWERS: Final = frozenset({QueryOutcome.ANSWERED, QueryOutcome.LATE, QueryOutcome.EXPIRED})


class SimulatedGateway:
    """One gateway process."""

    def __init__(self) -> None:
        self._admission = Admission()
        self._concurrency = ConcurrencyLimits()

    def admit(self, taken: SimulatedQuery, now: float) -> tuple[int, RefusalReason | None]:
        """Return the refused queries that an admitted query reports, or the reason of its refusal."""
        query = taken.query
        try:
            taken.kind = self._concurrency.enter(query, now)
        except Overloaded as refused:
            return 0, refused.reason
        try:
            rejected = self._admission.ask(query, now)
        except Overloaded as refused:
            self._concurrency.leave(taken.kind)
            return 0, refused.reason
        if taken.kind is not None:
            rejected += taken.kind.take_rejected_upstream()
        return min(rejected, MAX_REJECTED_UPSTREAM), None

    def answered(self, taken: SimulatedQuery, outcome: QueryOutcome, now: float) -> None:
        """Learn from an answer."""
        query, kind = taken.query, taken.kind
        self._concurrency.leave(kind)
        if kind is not None and query.deadline_ms is not None and outcome in _ANSWERS:
            took_s, left_s = now - query.sent_ms / 1e3, (query.deadline_ms - query.sent_ms) / 1e3
            kind.answered(took_s if outcome is not QueryOutcome.EXPIRED else max(took_s, left_s), left_s, now)
        self._admission.answered(query)

    def refused(self, taken: SimulatedQuery, retry_after_s: float | None, now: float) -> None:
        """Learn from a selector's refusal."""
        self._concurrency.leave(taken.kind)
        if retry_after_s is None:
            self._admission.answered(taken.query)
        else:
            self._admission.refused(taken.query, retry_after_s, now)

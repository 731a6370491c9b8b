"""Writes a plan to Postgres: its rows and their reasons in one transaction, under the leader's lock."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from prometheus_client import Counter

from autoscaler.decide.plan import ScalePlan
from schemas.rows.scaling import DecisionKind, DecisionRow, WantedWorkers
from store.leader import Leadership
from store.placement import change_placement
from store.scaling import drain_workers, put_wanted

CHANGES: Final = Counter("infaas_autoscaler_changes", "Changes of the wanted state.", ["action"])

log = logging.getLogger(__name__)


async def write_plan(plan: ScalePlan, policy: str, lead: Leadership) -> None:
    """Write all rows of a plan, or none if the leadership is lost.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
        StoreConflict: a variant or worker of the plan has been removed meanwhile.
    """
    decisions = list(decision_rows(plan, policy))
    if not decisions:
        return
    async with lead.transaction() as session:
        if plan.workers:
            wanted = [WantedWorkers(hardware=w.hardware, count=w.count, reason=w.reason) for w in plan.workers]
            await put_wanted(session, wanted)
        if plan.drain:
            await drain_workers(session, plan.drain)
        await change_placement(
            session,
            put=[change.wanted for change in plan.changes if change.wanted is not None],
            delete=[(change.variant, change.worker) for change in plan.changes if change.wanted is None],
            decisions=decisions,
        )
    for row in decisions:
        CHANGES.labels(row.action).inc()
        what = " on ".join(filter(None, (row.variant, row.worker or row.hardware)))
        log.info("%s %s: %s", row.action, what, row.reason)


def decision_rows(plan: ScalePlan, policy: str) -> Iterator[DecisionRow]:
    """Yield the decision rows of a plan, one for each change, in the plan's order."""
    row = partial(DecisionRow, at=datetime.now(UTC), policy=policy, explanation=plan.explanation)
    for change in plan.changes:
        yield row(
            kind=DecisionKind(change.kind),
            action=change.action,
            variant=change.variant,
            worker=change.worker,
            reason=change.reason,
            inputs=change.inputs,
        )
    for change in plan.workers:
        yield row(
            kind=DecisionKind.WORKER,
            action="want",
            hardware=change.hardware,
            reason=change.reason,
            inputs={"count": change.count},
        )
    for worker in plan.drain:
        yield row(
            kind=DecisionKind.WORKER,
            action="drain",
            worker=worker,
            reason="the worker drains; its instances move to others",
        )

"""Carries out a plan: the rows and the reasons in one transaction, under the lead."""

import logging
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter

from autoscaler.decide.situation import Plan
from schemas.records import DecisionRow
from store.leader import Leadership
from store.placement import change_placement

CHANGES: Final = Counter("infaas_autoscaler_changes", "Changes of what is wanted.", ["action"])

log = logging.getLogger(__name__)


async def carry_out(plan: Plan, lead: Leadership) -> None:
    """Write what the plan wants, all or nothing; nothing if the lead is lost.

    Raises:
        StoreUnavailable: Postgres is away.
        StoreConflict: a variant or worker of the plan is gone since.
    """
    if not plan.changes:
        return
    at = datetime.now(UTC)
    async with lead.transaction() as session:
        await change_placement(
            session,
            put=[change.wanted for change in plan.changes if change.wanted is not None],
            delete=[(change.variant, change.worker) for change in plan.changes if change.wanted is None],
            decisions=[
                DecisionRow(
                    at=at,
                    action=change.action,
                    variant=change.variant,
                    worker=change.worker,
                    reason=change.reason,
                    inputs=change.inputs,
                )
                for change in plan.changes
            ],
        )
    for change in plan.changes:
        CHANGES.labels(change.action).inc()
        log.info("%s %s on %s: %s", change.action, change.variant, change.worker, change.reason)

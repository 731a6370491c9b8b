"""When an instance would have answered a query: pure arithmetic over what it has to do and what was profiled."""

from typing import Final

from schemas.query import Query
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.variants import PricedVariant

_UNNOTICED: Final = 0.25


_UNNOTICED_S: Final = 0.002
"""What a free upgrade may wait: a share of its own time, or what the hops take anyway. Were no wait allowed, fast
queries of one kind would be scattered over all instances that are idle just then, and each would fetch a few."""


def finish_s(instance: Instance, batch: int, now: float, offline: bool = False) -> float:
    """Predicted seconds until `batch` inputs sent now have been answered.

    Offline queries wait for all others; to an online one they are at most the batch that is being computed.
    """
    model, worker = instance.model, instance.worker
    waiting = int(instance.waiting(now) + 0.5)
    idle_work = instance.offline_inputs
    ahead_s = 0.0
    if idle_work > 0.0:
        ahead_s = model.batch_s(int(idle_work) if offline else min(int(idle_work) + 1, model.max_batch))
    full, rest = divmod(waiting, model.max_batch)
    if full:
        backlog_s = model.batch_s(waiting - rest)
        own_s = model.batch_s(rest + batch)
    else:  # what little there is has been taken into a batch already
        backlog_s = model.batch_s(rest)
        own_s = model.batch_s(batch)
    backlog_s = (backlog_s + ahead_s) * instance.slowdown
    if is_busy(instance):
        backlog_s = max(backlog_s, worker.wait_s(now))
    return worker.hop_s + backlog_s + own_s * instance.slowdown


def is_busy(instance: Instance) -> bool:
    """Whether others on its worker take all slots."""
    return instance.worker.busy - instance.was_busy >= instance.worker.slots


def idle_finish_s(instance: Instance, batch: int) -> float:
    """Predicted seconds until `batch` inputs sent now were answered if nothing else was there."""
    return instance.worker.hop_s + instance.model.batch_s(batch) * instance.slowdown


def has_hard_deadline(query: Query) -> bool:
    """Whether an answer after the deadline is worth nothing."""
    return query.deadline_ms is not None and not query.needs.allow_late


def cold_start_finish_s(offer: PricedVariant, batch: int, world: ClusterState) -> float:
    """Predicted seconds until `batch` inputs sent now to a variant that is not loaded have been answered."""
    queued = sum(partition.unread() * partition.mean_inputs for partition in world.partitions(offer))
    return world.hop_s + offer.load_s + offer.model.batch_s(int(queued) + batch)


def has_idle_capacity(instance: Instance, batch: int, now: float, share: float) -> bool:
    """Whether an instance is idle enough to be given away: see the file's header."""
    worker, model = instance.worker, instance.model
    idle_finish_s = model.batch_s(batch)
    limit_s = max(idle_finish_s * _UNNOTICED, _UNNOTICED_S)
    taken_s = (model.batch_s(int(instance.waiting(now) + 0.5)) + idle_finish_s) * instance.slowdown
    return (
        instance.calm
        and worker.gone_at > now
        and taken_s - idle_finish_s <= limit_s
        and worker.wait_s(now) <= limit_s
        and worker.sends_per_s * idle_finish_s < share * worker.slots
    )

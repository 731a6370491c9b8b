"""Prediction of when an instance would have answered a query: pure arithmetic over its backlog and its profile.

Predicted finish = hops + the later of the instance's backlog and its worker's + the batch that the query would join,
from what was profiled and times the slowdown measured. Of the backlog counts what is a slot's share: an instance works
it off in all the slots that others leave.

An instance is idle, as far as upgrades are concerned, when a query would wait there for no longer than goes unnoticed,
and when its worker could serve its present rate of queries that way within a share of its slots: upgrades must not use
up the room that makes them free, or accuracy and latency would swing with every burst.
"""

from typing import Final

from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.variants import PricedVariant

_UNNOTICED: Final = 0.25
_UNNOTICED_S: Final = 0.002
"""Longest wait of an upgrade: a share of its own time, or what the hops take anyway. Were no wait allowed, fast queries
of one kind would be scattered over all instances that are idle just then, and each would fetch a few."""


def finish_s(instance: Instance, batch: int, now: float, offline: bool = False) -> float:
    """Predicted seconds until `batch` inputs sent now have been answered.

    Offline queries wait for all others; to an online one they are at most the batch that is being computed.
    """
    model, worker = instance.model, instance.worker
    waiting = instance.waiting_in_slot(now)
    offline_inputs = instance.offline_inputs
    ahead_s = 0.0
    if offline_inputs > 0.0:
        ahead_s = model.batch_s(
            int(offline_inputs / max(instance.slots, 1.0)) if offline else min(int(offline_inputs) + 1, model.max_batch)
        )
    full, rest = divmod(waiting, model.max_batch)
    if full:
        backlog_s = model.batch_s(waiting - rest)
        own_s = model.batch_s(rest + batch)
    else:  # what little there is has been taken into a batch already
        backlog_s = model.batch_s(rest)
        own_s = model.batch_s(batch)
    backlog_s = (backlog_s + ahead_s) * instance.slowdown
    if instance.lacks_slot():
        backlog_s = max(backlog_s, worker.wait_s(now))
    return worker.hop_s + backlog_s + own_s * instance.slowdown


def idle_finish_s(instance: Instance, batch: int) -> float:
    """Predicted seconds until `batch` inputs sent now were answered if nothing else was there."""
    return instance.worker.hop_s + instance.model.batch_s(batch) * instance.slowdown


def cold_start_finish_s(variant: PricedVariant, batch: int, state: ClusterState) -> float:
    """Predicted seconds until `batch` inputs sent now to a variant that is not loaded have been answered."""
    queued = sum(partition.unread() * partition.mean_inputs for partition in state.partitions(variant))
    return state.hop_s + variant.load_s + variant.model.batch_s(int(queued) + batch)


def has_idle_capacity(instance: Instance, batch: int, now: float, share: float) -> bool:
    """Whether an instance is idle enough to take an upgrade, which may fill `share` of its worker's slots."""
    worker, model = instance.worker, instance.model
    batch_s = model.batch_s(batch)
    limit_s = max(batch_s * _UNNOTICED, _UNNOTICED_S)
    taken_s = (model.batch_s(instance.waiting_in_slot(now)) + batch_s) * instance.slowdown
    return (
        instance.active
        and worker.expires_at > now
        and taken_s - batch_s <= limit_s
        and worker.wait_s(now) <= limit_s
        and worker.sends_per_s * batch_s < share * worker.slots
    )

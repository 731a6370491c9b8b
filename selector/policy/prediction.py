"""Prediction of the time at which an instance will have answered a query: pure arithmetic over backlog and profile.

Predicted finish = hops + the later of the instance's backlog and its worker's + the batch that the query would join, by
profile, multiplied by the measured slowdown. Of the backlog one slot's share counts, because an instance works it off
in all slots that others leave. Batches in a backlog take at least the recently observed time per batch
(`queue_slowdown`). Otherwise all queries to a busy machine would be late by the same time.

Of the backlogs only work at least as urgent as the query counts, because workers compute the earliest deadline first.
Nothing is preempted, so a query also waits for the end of a less urgent batch.

For upgrades an instance is idle if the query would wait unnoticeably short, and if the worker could serve its present
rate of queries that way within half of its slots. Upgrades must leave that room, or accuracy and latency would
oscillate with every burst.

A large query is computed in pieces, with other queries in between. So to another query it costs one piece, and the
pieces' share of the slots. A large query itself is predicted behind all other large queries and in one slot, because
one slot is kept free of pieces. Its time is that of its model calls, multiplied by the measured factor of large queries
(`large_factor`), which includes reading and writing.

Free slots do not show the load of the machine, which Kafka, gateways and others use as well. So the share of upgraded
queries decreases with the CPU use of the machine, to zero when it is nearly full. It decreases in proportion, over at
least the CPU that upgrading all queries would add: upgrades then settle at a level instead of starting and stopping,
because their own CPU use is part of the measurement.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from schemas.latency import PIECES_SHARE
from schemas.urgency import LEAST_URGENT, urgency_level
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.variants import PricedVariant

_UNNOTICED: Final = 0.25
_UNNOTICED_S: Final = 0.002
"""Longest wait of an upgrade: a share of its own time, or about the hops. With no wait allowed, fast queries of one
kind would be scattered over all idle instances, and each would fetch a few.
"""
_UPGRADED_SLOTS: Final = 0.5
"""Share of a worker's slots that upgrades may fill."""
_CPU_BAND: Final = 0.25
"""Range of CPU use over which upgrades become fewer. It exceeds the cost of many small queries beyond their batches,
above all their own fetches, which no profile contains.
"""


def finish_s(
    instance: Instance,
    batch: int,
    now: float,
    offline: bool = False,
    due_s: float = inf,
) -> float:
    """Return the predicted seconds until `batch` inputs sent now are answered.

    Offline queries wait for all others; to an online one they cost at most the running batch, and nothing while they
    leave a slot free. An online query that is due at `due_s` overtakes less urgent ones.
    """
    model, worker = instance.model, instance.worker
    hops_s = worker.hop_s
    if batch > model.max_batch and not offline and model.is_large(batch):
        return hops_s + _large_s(instance, batch, now)
    level = LEAST_URGENT if offline or not worker.later_s[0] else urgency_level(due_s - worker.stated_at)
    others_s = instance.others_wait_s(now, level) if worker.free_at[-1] > now else 0.0
    if instance.level or instance.offline_inputs or instance.large_inputs:
        return hops_s + _queued_s(instance, batch, now, offline, others_s, level)
    own_s = model.promised[batch] if batch <= model.max_batch else model.promised_s(batch)
    return hops_s + others_s + own_s * instance.slowdown


def _queued_s(instance: Instance, batch: int, now: float, offline: bool, others_s: float, level: int) -> float:
    """Return the predicted seconds of a query behind the instance's backlog, without hops."""
    model, slowdown = instance.model, instance.slowdown
    waiting = instance.waiting_in_slot(now, level)
    offline_inputs, large_inputs = instance.offline_inputs, instance.large_inputs
    ahead_s = 0.0
    if offline_inputs > 0.0 and offline:
        ahead_s = model.batch_s(int(offline_inputs / max(instance.slots, 1.0)))
    elif offline_inputs > 0.0 and not instance.has_free_slots(now):
        ahead_s = model.batch_s(min(int(offline_inputs) + 1, model.max_batch))
    if large_inputs and not offline:
        ahead_s = max(ahead_s, model.query_s(min(large_inputs, model.piece_inputs)))
    full, rest = divmod(waiting, model.max_batch)
    if full:
        backlog_s = model.batch_s(waiting - rest)
        own_s = model.promised_s(rest + batch)
    else:  # the small rest is already part of a running batch
        backlog_s = model.batch_s(rest)
        own_s = model.promised_s(batch)
    if large_inputs:
        backlog_s /= 1.0 - PIECES_SHARE
    backlog_s = (backlog_s + ahead_s) * (instance.effective_slowdown if waiting else slowdown)
    return max(backlog_s, others_s) + own_s * slowdown


def _large_s(instance: Instance, batch: int, now: float) -> float:
    """Return the predicted seconds of a large query behind all others and in one slot, without hops."""
    model = instance.model
    waiting_s = model.batch_s(instance.waiting_in_slot(now)) * instance.effective_slowdown
    factor = max(instance.slowdown, instance.large_factor)
    return max(waiting_s, instance.others_wait_s(now)) + model.query_s(instance.large_inputs + batch) * factor


def idle_finish_s(instance: Instance, batch: int) -> float:
    """Return the predicted seconds until `batch` inputs sent now are answered on an otherwise idle system."""
    model, factor = instance.model, instance.slowdown
    hops_s = instance.worker.hop_s
    if batch <= model.max_batch:
        return hops_s + model.promised[batch] * factor
    if model.is_large(batch):
        factor = max(factor, instance.large_factor)
    return hops_s + model.query_s(batch) * factor


def drain_s(instances: Iterable[Instance], batch: int, now: float) -> float:
    """Return the predicted seconds until one instance has finished its work and could compute `batch` inputs at once.

    At least the time of these inputs: a client that retries sooner would find another query in its place.
    """
    return min(max(i.work_s(now), i.model.batch_s(batch) * i.slowdown) for i in instances)


def cold_start_finish_s(variant: PricedVariant, batch: int, state: ClusterState) -> float:
    """Return the predicted seconds until `batch` inputs sent now to an unloaded variant are answered."""
    return state.hop_s + variant.load_s + variant.model.query_s(queued_inputs(variant, state) + batch)


def queued_inputs(variant: PricedVariant, state: ClusterState) -> int:
    """Return the inputs that wait in the topic of an unloaded variant."""
    return int(sum(partition.unread_inputs() for partition in state.partitions(variant)))


def upgraded_share(instance: Instance, batch: int, now: float, cpu_limit: float) -> float:
    """Return the share of queries, 0..1, that may be upgraded to an instance; 0 if it is not idle enough.

    From the CPU use `cpu_limit` of its machine on there are none.
    """
    if bars_upgrades(instance, batch, now, cpu_limit):
        return 0.0
    worker, batch_s = instance.worker, instance.model.batch_s(batch)
    limit_s = max(batch_s * _UNNOTICED, _UNNOTICED_S)
    if worker.free_at[-1] > now and worker.mean_wait_s(now) > limit_s:
        return 0.0
    waiting_s = instance.model.batch_s(instance.waiting_in_slot(now)) if instance.level else 0.0
    if (waiting_s + batch_s) * instance.slowdown - batch_s > limit_s:
        return 0.0
    return cpu_share(instance, batch_s, cpu_limit) if worker.cpus > 0 else 1.0


def bars_upgrades(instance: Instance, batch: int, now: float, cpu_limit: float) -> bool:
    """Return true if no query of at least `batch` inputs may be upgraded to an instance at present."""
    worker = instance.worker
    if worker.expires_at <= now or (worker.cpus > 0 and worker.cpu_busy >= cpu_limit):
        return True
    return worker.sends.per_s * instance.model.batch_s(batch) * instance.width >= _UPGRADED_SLOTS * worker.slots


def cpu_share(instance: Instance, batch_s: float, cpu_limit: float) -> float:
    """Return the share of queries with a batch time of `batch_s` that the machine's free CPU time allows to upgrade."""
    worker = instance.worker
    added = worker.sends.per_s * batch_s * instance.variant.profile.threads / worker.cpus
    return min(max((cpu_limit - worker.cpu_busy) / max(added, _CPU_BAND), 0.0), 1.0)

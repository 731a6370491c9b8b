"""Prediction of when an instance would have answered a query: pure arithmetic over its backlog and its profile.

Predicted finish = hops + the later of the instance's backlog and its worker's + the batch that the query would join,
from what was profiled and times the slowdown measured. Of the backlog counts what is a slot's share: an instance works
it off in all the slots that others leave. It takes no less than the instance was seen to take for one lately (drag):
were only its batches counted, all that is sent to a busy machine would be late by the same time.

An instance is idle, as far as upgrades are concerned, when a query would wait there for no longer than goes unnoticed,
and when its worker could serve its present rate of queries that way within a share of its slots: upgrades must not use
up the room that makes them free, or accuracy and latency would swing with every burst.

A large query is computed in pieces, and others between them. So to another query it is a piece, and the share of the
slots that pieces have while others wait. It is itself predicted behind all other large queries and in one slot, for one
is kept free of pieces, by its calls of the model and times what large queries were seen to take (`large_factor`), which
reading and writing are in.

Slots that are free say nothing of the machine, which Kafka, gateways and others use as well. So the fuller its CPUs,
the smaller the share of queries that is upgraded, and none is where they are nearly full. That share falls in
proportion, not at a limit, and over no less than what the upgrades of all queries would add: they settle where they
fit, since the CPU that they take is measured with the rest, and do not come and go by turns. What has come beyond the
usual since it was measured is added, as what it will take.
"""

from collections.abc import Iterable
from typing import Final

from schemas.latency import PIECES_SHARE
from selector.cluster_state import ClusterState
from selector.entities import Instance, Worker, unread_inputs
from selector.variants import PricedVariant

_UNNOTICED: Final = 0.25
_UNNOTICED_S: Final = 0.002
"""Longest wait of an upgrade: a share of its own time, or what the hops take anyway. Were no wait allowed, fast queries
of one kind would be scattered over all instances that are idle just then, and each would fetch a few."""
_CPU_BAND: Final = 0.25
"""Share of a machine's CPUs over which upgrades become fewer: more than what many small ones cost beyond their batches,
fetches of their own above all, which no profile knows."""
_HOPS_CPU_S: Final = 0.001
"""CPU seconds of a query beyond its computation, Kafka, gateway and selector included, as a burst begins; less where
they run elsewhere."""
_STREAM_S: Final = 0.0005
"""Seconds that who asked takes to read an answer that comes over a connection."""
_STREAM_SHARE: Final = 0.6
"""Of the time that a record takes by way of the broker, what an answer takes over a connection: it wakes as many
processes but one, on machines that are as busy."""


def finish_s(instance: Instance, batch: int, now: float, offline: bool = False, streamed: bool = False) -> float:
    """Predicted seconds until `batch` inputs sent now have been answered.

    Offline queries wait for all others; to an online one they are at most the batch that is being computed. A streamed
    answer has no broker on its way.
    """
    model = instance.model
    if batch > model.max_batch and not offline and model.is_large(batch):
        return _large_finish_s(instance, batch, now, streamed)
    waiting = instance.waiting_in_slot(now)
    offline_inputs = instance.offline_inputs
    ahead_s = 0.0
    if offline_inputs > 0.0:
        ahead_s = model.batch_s(
            int(offline_inputs / max(instance.slots, 1.0)) if offline else min(int(offline_inputs) + 1, model.max_batch)
        )
    if instance.large_inputs and not offline:
        ahead_s = max(ahead_s, model.query_s(min(instance.large_inputs, model.piece_inputs)))
    full, rest = divmod(waiting, model.max_batch)
    if full:
        backlog_s = model.batch_s(waiting - rest)
        own_s = model.promised_s(rest + batch)
    else:  # what little there is has been taken into a batch already
        backlog_s = model.batch_s(rest)
        own_s = model.promised_s(batch)
    if instance.large_inputs:
        backlog_s /= 1.0 - PIECES_SHARE
    backlog_s = (backlog_s + ahead_s) * (instance.pace() if waiting else instance.slowdown)
    backlog_s = max(backlog_s, instance.others_wait_s(now))
    return _hops_s(instance.worker, streamed) + backlog_s + own_s * instance.slowdown


def _large_finish_s(instance: Instance, batch: int, now: float, streamed: bool) -> float:
    model = instance.model
    waiting_s = model.batch_s(instance.waiting_in_slot(now)) * instance.pace()
    backlog_s = max(waiting_s, instance.others_wait_s(now))
    factor = max(instance.slowdown, instance.large_factor)
    return _hops_s(instance.worker, streamed) + backlog_s + model.query_s(instance.large_inputs + batch) * factor


def _hops_s(worker: Worker, streamed: bool) -> float:
    """Predicted seconds that a query and its answer are on their way."""
    return worker.hop_s / 2 * (1 + _STREAM_SHARE) + _STREAM_S if streamed else worker.hop_s


def idle_finish_s(instance: Instance, batch: int, streamed: bool = False) -> float:
    """Predicted seconds until `batch` inputs sent now were answered if nothing else was there."""
    model, factor = instance.model, instance.slowdown
    if batch > model.max_batch and model.is_large(batch):
        factor = max(factor, instance.large_factor)
    return _hops_s(instance.worker, streamed) + model.query_s(batch) * factor


def drain_s(instances: Iterable[Instance], batch: int, now: float) -> float:
    """Predicted seconds until one of these has worked off all it has and could compute `batch` inputs at once.

    At least the time of these inputs: who comes back sooner would find another in its place.
    """
    return min(max(i.work_s(now), i.model.batch_s(batch) * i.slowdown) for i in instances)


def cold_start_finish_s(variant: PricedVariant, batch: int, state: ClusterState) -> float:
    """Predicted seconds until `batch` inputs sent now to a variant that is not loaded have been answered."""
    queued = unread_inputs(state.partitions(variant))
    return state.hop_s + variant.load_s + variant.model.query_s(int(queued) + batch)


def upgraded_share(instance: Instance, batch: int, now: float, cpu_limit: float) -> float:
    """Share of the queries that may be upgraded to an instance while its machine is as busy as it is, 0..1.

    None is from where `cpu_limit` of the CPUs' time is in use. That is measured over half a second, in which a burst of
    queries could be upgraded to the last: what has come beyond the usual since is added, as what it will take.
    """
    worker = instance.worker
    if worker.cpus <= 0:  # nobody says how busy it is
        return 1.0
    if worker.cpu_busy >= cpu_limit:
        return 0.0
    query_cpu_s = instance.model.batch_s(batch) * instance.variant.profile.threads
    added = worker.sends_per_s * query_cpu_s / worker.cpus
    busy = worker.cpu_busy + worker.surge_per_s(now) * (query_cpu_s + _HOPS_CPU_S) / worker.cpus
    return min(max((cpu_limit - busy) / max(added, _CPU_BAND), 0.0), 1.0)


def has_idle_capacity(instance: Instance, batch: int, now: float, share: float) -> bool:
    """Whether an instance is idle enough to take an upgrade, which may fill `share` of its worker's slots."""
    worker, model = instance.worker, instance.model
    batch_s = model.batch_s(batch)
    limit_s = max(batch_s * _UNNOTICED, _UNNOTICED_S)
    return (
        instance.active
        and worker.expires_at > now
        and worker.sends_per_s * batch_s * instance.width < share * worker.slots
        and worker.mean_wait_s(now) <= limit_s
        and (model.batch_s(instance.waiting_in_slot(now)) + batch_s) * instance.slowdown - batch_s <= limit_s
    )

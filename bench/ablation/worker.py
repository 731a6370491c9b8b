"""Switches of workers: batches, order of work, large queries, and prefetch."""

from operator import attrgetter, itemgetter
from typing import Final

from bench.ablation.mechanism import AblatedMechanism, Area, argument, constant, given, making, returning

_QUEUE: Final = "workers.slots.batch_queue"
_LARGE: Final = "workers.slots.large_queries"
_LATENCY: Final = "schemas.latency"


WORKER: Final = (
    AblatedMechanism(
        name="smallest batch of nearly best throughput",
        area=Area.WORKER,
        code=(f"{_LATENCY}:LatencyModel.best_batch", f"{_LATENCY}:_AS_GOOD"),
        patches={f"{_LATENCY}:LatencyModel.best_batch": constant(property(attrgetter("max_batch")))},
    ),
    AblatedMechanism(
        name="batches that end before the earliest deadline",
        area=Area.WORKER,
        code=(f"{_QUEUE}:_batch_limit", f"{_QUEUE}:_meets_deadline"),
        patches={f"{_QUEUE}:_batch_limit": argument(3)},
    ),
    AblatedMechanism(
        name="even shares of free slots",
        area=Area.WORKER,
        code=(f"{_QUEUE}:share_of_slot",),
        patches={f"{_QUEUE}:share_of_slot": argument(3)},
    ),
    AblatedMechanism(
        name="order of deadlines",
        area=Area.WORKER,
        code=(f"{_QUEUE}:_Entry", f"{_QUEUE}:_order"),
        patches={f"{_QUEUE}:_order": constant(itemgetter(1))},
    ),
    AblatedMechanism(
        name="expired queries are not computed",
        area=Area.WORKER,
        code=(f"{_QUEUE}:BatchQueue._expire", f"{_LARGE}:LargeQueries.expire"),
        patches={f"{_QUEUE}:BatchQueue._expire": making(list)},
    ),
    AblatedMechanism(
        name="large queries in pieces",
        area=Area.WORKER,
        code=(_LARGE, f"{_LATENCY}:LatencyModel.piece_inputs", "selector.policy.prediction:_large_s"),
        patches={f"{_LATENCY}:LatencyModel.is_large": returning(False)},
    ),
    AblatedMechanism(
        name="a quarter of the time for pieces",
        area=Area.WORKER,
        code=(f"{_LARGE}:PieceTurn", f"{_LATENCY}:PIECES_SHARE", "workers.slots.schedule:SlotSchedule._count_turn"),
        patches={f"{_LARGE}:PieceTurn.passed_over": returning(None)},
    ),
    AblatedMechanism(
        name="turns of tenants among large queries",
        area=Area.WORKER,
        code=(f"{_LARGE}:LargeQueries._next_tenant", f"{_LARGE}:LargeQueries._drop"),
        patches={f"{_LARGE}:LargeQueries.add": given(1, lambda _tenant: "")},
        promise="tenants take turns",
    ),
    AblatedMechanism(
        name="limit of prefetched queries",
        area=Area.WORKER,
        code=("workers.slots.prefetch",),
        unseen="it bounds the memory of a worker",
    ),
    AblatedMechanism(
        name="reading on of unclaimed partitions",
        area=Area.WORKER,
        code=("workers.handover:NOTICED_S", "workers.handover:IN_USE_S"),
        patches={"simulator.cluster.instance:IN_USE_S": constant(0.0)},
        promise="no query is lost at a removal",
    ),
    AblatedMechanism(
        name="batches of several slots",
        area=Area.WORKER,
        code=("workers.slots.footprint",),
        unseen="no variant of the catalogue takes several slots",
        promise="variants of several cores",
    ),
    AblatedMechanism(
        name="corrected profiles",
        area=Area.WORKER,
        code=(
            "workers.serving.corrected_profile",
            "workers.serving.health:DriftMeter",
            "workers.serving.health:correct",
            "workers.serving.health:DriftWindow",
            "workers.serving.health:Correction",
            "workers.serving.health:ratio_of",
        ),
        unseen="simulated profiles are right; a real one is wrong at another clock rate or length of texts",
    ),
    AblatedMechanism(
        name="stuck batches set aside",
        area=Area.WORKER,
        code=("workers.slots.schedule:SlotSchedule.watch", "workers.slots.schedule:SlotSchedule._set_aside"),
        unseen="simulated batches end",
    ),
    AblatedMechanism(
        name="brief batches on the event loop",
        area=Area.WORKER,
        code=("workers.serving.computation",),
        unseen="it spares a hop between threads; a simulated batch has a constant overhead",
    ),
    AblatedMechanism(
        name="additional time by input length",
        area=Area.WORKER,
        code=(f"{_LATENCY}:LengthModel", f"{_LATENCY}:_extras"),
        unseen="simulated inputs have no length",
    ),
)

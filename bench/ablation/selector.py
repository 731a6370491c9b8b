"""Switches of the selector's policy: predictions, choice among replicas, upgrades, and steps of a choice."""

from typing import Any, Final

from msgspec.structs import replace

from bench.ablation.mechanism import AblatedMechanism, Area, Patch, constant, given, returning
from selector.policy.entities import Instance

_INSTANCE: Final = "selector.policy.entities:Instance"
_WORKER: Final = "selector.policy.entities:Worker"
_SENDS: Final = "selector.policy.send_rate:SendRate"
_SELECTION: Final = "selector.policy.selection"
_PREDICTION: Final = "selector.policy.prediction"
_METER: Final = "workers.serving.health:BatchMeter"


def _reported_as(**values: Any) -> Patch:
    """Replace fields of a status before the selector reads it."""
    return given(1, lambda reported: replace(reported, **values))


def _expect_all_slots(instance: Instance, now: float) -> None:
    """Expect all slots that an instance may use, whatever other instances have to do."""
    worker = instance.worker
    instance.slots = max(min(instance.parallel * instance.width, worker.slots), 1) / instance.width
    instance.rate = instance.slot_rate * instance.slots
    instance.free_at, instance.shared_at = now + instance.work_s(now), worker.status_at


def _without_steps(*names: str) -> Patch:
    return lambda steps: tuple(step for step in steps if step.__name__ not in names)


PREDICTION: Final = (
    AblatedMechanism(
        name="slowdown in predictions",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}.slowdown", "workers.serving.health:NOISE_S"),
        patches={f"{_INSTANCE}.take_status": _reported_as(slowdown=1.0)},
    ),
    AblatedMechanism(
        name="queue slowdown",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}.effective_slowdown", f"{_METER}.interrupted"),
        patches={f"{_INSTANCE}.take_status": _reported_as(queue_slowdown=1.0)},
    ),
    AblatedMechanism(
        name="factor of large queries",
        area=Area.PREDICTION,
        code=(
            f"{_INSTANCE}.large_factor",
            f"{_METER}.large_answered",
            "workers.serving.health:_LARGE_WEIGHT",
            "workers.serving.health:_LARGE_KEPT",
        ),
        unseen="it measures the reading and writing of large bodies, which simulated queries do not have",
    ),
    AblatedMechanism(
        name="inputs done of running batches",
        area=Area.PREDICTION,
        code=("workers.slots.schedule:SlotSchedule.done_inputs", "workers.slots.schedule:_BatchUnderWay.done"),
        patches={f"{_INSTANCE}.take_status": _reported_as(done_inputs=0.0)},
    ),
    AblatedMechanism(
        name="measured rate of a slot",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}._take_slot_rate",),
        patches={f"{_INSTANCE}.take_status": _reported_as(batch_s=0.0)},
    ),
    AblatedMechanism(
        name="backlog of each slot",
        area=Area.PREDICTION,
        code=("workers.slots.batch_queue:slot_backlogs_s", "workers.slots.batch_queue:_MOST_ROUNDS"),
        patches={f"{_WORKER}.take_status": _reported_as(slot_backlogs_s=())},
    ),
    AblatedMechanism(
        name="sends occupy slots",
        area=Area.PREDICTION,
        code=(f"{_WORKER}.take_work", f"{_WORKER}.take_inputs", f"{_WORKER}.sent_to"),
        patches={f"{_WORKER}.take_inputs": returning(None)},
    ),
    AblatedMechanism(
        name="waiting for other instances' slots",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}.others_wait_s", f"{_WORKER}.wait_s"),
        patches={f"{_INSTANCE}.others_wait_s": returning(0.0)},
    ),
    AblatedMechanism(
        name="urgency of waiting work",
        area=Area.PREDICTION,
        code=(
            f"{_WORKER}.add_later",
            f"{_WORKER}.later_s",
            f"{_WORKER}.blocking_s",
            f"{_WORKER}.stated_at",
            f"{_INSTANCE}.later_inputs",
            f"{_INSTANCE}._take_later",
            "workers.slots.batch_queue:inputs_by_urgency",
            "schemas.urgency:URGENCY_BOUNDS_S",
        ),
        patches={f"{_WORKER}.add_later": returning(None)},
    ),
    AblatedMechanism(
        name="shares of slots by work",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}.share_slots", f"{_INSTANCE}.load_s", f"{_WORKER}.load_s"),
        patches={f"{_INSTANCE}.share_slots": constant(_expect_all_slots)},
    ),
    AblatedMechanism(
        name="mean inputs of waiting queries",
        area=Area.PREDICTION,
        code=(f"{_INSTANCE}._mean_of", f"{_INSTANCE}.mean_inputs"),
        patches={f"{_INSTANCE}._mean_of": returning(None)},
    ),
    AblatedMechanism(
        name="sends of other selectors in acknowledgements",
        area=Area.PREDICTION,
        code=("selector.policy.cluster_state:ClusterState.acknowledged",),
        patches={"selector.policy.cluster_state:ClusterState.acknowledged": given(1, lambda _instance: None)},
    ),
    AblatedMechanism(
        name="measured hop",
        area=Area.PREDICTION,
        code=(f"{_WORKER}.measure_hop", "selector.policy.entities:_SMOOTHING", "selector.policy.entities:_MAX_HOP_S"),
        patches={f"{_WORKER}.measure_hop": returning(None)},
    ),
)

CHOICE: Final = (
    AblatedMechanism(
        name="power of two choices",
        area=Area.CHOICE,
        code=(f"{_SELECTION}:_drawn", "selector.policy.replicas:two_of", "selector.policy.replicas:ReplicaGroup"),
        patches={f"{_SELECTION}:FEW": constant(10**9)},
    ),
    AblatedMechanism(
        name="apertures",
        area=Area.CHOICE,
        code=(
            "selector.policy.replicas:TaskShare",
            "selector.policy.replicas:Replicas.preferred",
            "selector.policy.replicas:Replicas.use_share",
            f"{_SELECTION}:_preferred_replica",
            f"{_SELECTION}:_NEAR",
            "selector.policy.cluster_state:ClusterState.use_shares",
            "selector.service:task_shares",
        ),
        patches={"selector.policy.replicas:TaskShare.is_whole": constant(property(lambda _share: True))},
    ),
    AblatedMechanism(
        name="half of the cheapest variant's queue left to others",
        area=Area.CHOICE,
        code=(f"{_SELECTION}:_is_prompt", f"{_SELECTION}:_at_price_of", f"{_SELECTION}:_PROMPT"),
        patches={f"{_SELECTION}:_is_prompt": returning(True)},
    ),
    AblatedMechanism(
        name="the replica that is free first as third choice",
        area=Area.CHOICE,
        code=(
            "selector.policy.replicas:ReplicaGroup.soonest",
            "selector.policy.replicas:ReplicaGroup._settle",
            "selector.policy.replicas:ReplicaGroup._holds",
        ),
        patches={"selector.policy.replicas:ReplicaGroup.soonest": returning(None)},
    ),
    AblatedMechanism(
        name="no dearer variant beside an overloaded cheaper one",
        area=Area.CHOICE,
        code=(f"{_SELECTION}:_is_slower", f"{_INSTANCE}.is_blocked"),
        patches={f"{_SELECTION}:_is_slower": returning(False)},
    ),
    AblatedMechanism(
        name="overloaded state",
        area=Area.CHOICE,
        code=(
            "workers.serving.health:_overloaded",
            "workers.serving.health:BACKLOG_BEGINS_S",
            "workers.serving.health:BACKLOG_ENDS_S",
            "workers.serving.health:LOAD_BEGINS",
            "workers.serving.health:LOAD_ENDS",
        ),
        patches={"workers.serving.health:_overloaded": returning(False)},
        promise="operators see the state of an instance",
    ),
    AblatedMechanism(
        name="interfered state",
        area=Area.CHOICE,
        code=(
            "workers.serving.health:_interfered",
            "workers.serving.health:SLOWDOWN_BEGINS",
            "workers.serving.health:SLOWDOWN_ENDS",
        ),
        patches={"workers.serving.health:_interfered": returning(False)},
        promise="operators see the state of an instance",
    ),
    AblatedMechanism(
        name="cold start within the deadline",
        area=Area.CHOICE,
        code=(f"{_SELECTION}:cold_start_in_time", f"{_SELECTION}:_is_fast_enough_alone"),
        patches={f"{_SELECTION}:_STEPS": _without_steps("cold_start_in_time")},
    ),
    AblatedMechanism(
        name="instances for queries that may be late",
        area=Area.CHOICE,
        code=(f"{_SELECTION}:soonest", f"{_SELECTION}:fallback"),
        patches={f"{_SELECTION}:_STEPS": _without_steps("soonest", "fallback")},
        promise="queries without a firm deadline are answered",
    ),
)


UPGRADES: Final = (
    AblatedMechanism(
        name="upgrades",
        area=Area.UPGRADES,
        code=(
            f"{_SELECTION}:_upgrade",
            f"{_PREDICTION}:upgraded_share",
            f"{_PREDICTION}:cpu_share",
            f"{_SELECTION}:_MOST_UPGRADES",
            f"{_PREDICTION}:_UNNOTICED_S",
            f"{_PREDICTION}:_UPGRADED_SLOTS",
            f"{_PREDICTION}:_CPU_BAND",
            f"{_SENDS}.settle",
            "selector.policy.choice:PolicyConfig.upgrades",
            "selector.policy.choice:PolicyConfig.upgrade_cpu_limit",
        ),
        patches={f"{_SELECTION}:_upgrade": returning(None)},
    ),
    AblatedMechanism(
        name="upgrades: limit of the worker's slots",
        area=Area.UPGRADES,
        code=(f"{_PREDICTION}:_UPGRADED_SLOTS", f"{_SENDS}.settle", f"{_SENDS}.queries", f"{_SENDS}.per_s"),
        patches={f"{_PREDICTION}:_UPGRADED_SLOTS": constant(float("inf"))},
    ),
    AblatedMechanism(
        name="upgrades: limit of the machine's CPU",
        area=Area.UPGRADES,
        code=(
            "selector.policy.choice:PolicyConfig.upgrade_cpu_limit",
            f"{_PREDICTION}:cpu_share",
            f"{_PREDICTION}:_CPU_BAND",
        ),
        unseen="simulated services lose no CPU time to batches; on a full machine upgrades took 28 % of the throughput "
        "([selection](explanation/selection.md#upgrades))",
    ),
    AblatedMechanism(
        name="upgrades: to nearly idle instances only",
        area=Area.UPGRADES,
        code=(f"{_PREDICTION}:_UNNOTICED", f"{_PREDICTION}:_UNNOTICED_S", f"{_WORKER}.mean_wait_s"),
        patches={f"{_PREDICTION}:_UNNOTICED_S": constant(float("inf"))},
    ),
)

UNSEEN: Final = (
    AblatedMechanism(
        name="cached classes of queries",
        area=Area.CHOICE,
        code=("selector.policy.candidates:Candidates", "selector.policy.candidates:QueryClass"),
        unseen="it spares CPU time of a selector; a simulated decision takes a constant time",
    ),
    AblatedMechanism(
        name="delay between two fetches",
        area=Area.CHOICE,
        code=("selector.dispatch.fetch_delay",),
        unseen="it batches requests to Kafka; simulated records travel one by one",
    ),
    AblatedMechanism(
        name="order of deadlines within a fetch",
        area=Area.CHOICE,
        code=("selector.dispatch.online:Dispatcher.take_all",),
        unseen="simulated queries reach a selector one by one",
    ),
    AblatedMechanism(
        name="canaries, shadows, versions and tenants' views",
        area=Area.CHOICE,
        code=(
            f"{_SELECTION}:drawn_candidates",
            "selector.policy.candidates:TaskCandidates._view",
            "selector.policy.candidates:TaskCandidates.stand_ins",
            "selector.policy.late_binding:bind_copy",
        ),
        unseen="catalogues of simulations have neither versions nor access",
        promise="rollouts and access",
    ),
)

SELECTOR: Final = (*PREDICTION, *CHOICE, *UPGRADES, *UNSEEN)

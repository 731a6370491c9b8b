"""Switches of offline queries, in selectors and workers."""

from typing import Final

from bench.ablation.mechanism import AblatedMechanism, Area, named, returning

_BINDING: Final = "selector.policy.late_binding"
_ENTITIES: Final = "selector.policy.entities"
_HELD: Final = "selector.dispatch.held_queries"
_THROTTLE: Final = "workers.serving.offline_throttle:OfflineThrottle"


OFFLINE: Final = (
    AblatedMechanism(
        name="late binding",
        area=Area.OFFLINE,
        code=(f"{_BINDING}:_has_room", f"{_BINDING}:_is_free_of_online", f"{_ENTITIES}:Worker.has_free_slots"),
        patches={f"{_BINDING}:_has_room": returning(True), f"{_BINDING}:_is_free_of_online": returning(True)},
        promise="offline queries delay no online query",
    ),
    AblatedMechanism(
        name="less work ahead beside online queries",
        area=Area.OFFLINE,
        code=(
            f"{_BINDING}:_AHEAD_OF_BUSY_S",
            f"{_BINDING}:_QUIET_S",
            f"{_ENTITIES}:Worker.online_at",
        ),
        unseen="it spares CPU time of a busy machine; simulated machines have none besides that of slots",
    ),
    AblatedMechanism(
        name="no slot from a cheaper variant",
        area=Area.OFFLINE,
        code=(f"{_ENTITIES}:Worker.has_free_slots", f"{_ENTITIES}:Instance.occupied_slots"),
        patches={f"{_ENTITIES}:Worker.has_free_slots": returning(True)},
    ),
    AblatedMechanism(
        name="slots that offline work leaves to online queries",
        area=Area.OFFLINE,
        code=(f"{_ENTITIES}:Instance.has_free_slots",),
        patches={f"{_ENTITIES}:Instance.has_free_slots": returning(False)},
    ),
    AblatedMechanism(
        name="turns of tenants by slot time",
        area=Area.OFFLINE,
        code=("selector.admission.tenant_shares:FairShares", f"{_HELD}:HeldQueries.turns"),
        patches={"selector.admission.tenant_shares:FairShares.give": returning(None)},
        promise="tenants take turns",
    ),
    AblatedMechanism(
        name="return of queries that block others",
        area=Area.OFFLINE,
        code=(f"{_HELD}:HeldQueries.is_in_the_way", f"{_HELD}:_PUT_BACK_S"),
        patches={f"{_HELD}:HeldQueries.is_in_the_way": returning(False)},
    ),
    AblatedMechanism(
        name="a few at a time beside online queries",
        area=Area.OFFLINE,
        code=(_THROTTLE, "workers.serving.offline_throttle:_FEW", "schemas.offline_share:offline_pause_s"),
        patches={f"{_THROTTLE}.room": named(online=False)},
        promise="offline queries delay no online query",
    ),
    AblatedMechanism(
        name="a slot kept free of offline work and pieces",
        area=Area.OFFLINE,
        code=("workers.slots.schedule:SlotSchedule._has_room_to_yield",),
        patches={"workers.slots.schedule:SlotSchedule._has_room_to_yield": returning(True)},
        promise="offline queries delay no online query",
    ),
    AblatedMechanism(
        name="pace by the machine's CPU time",
        area=Area.OFFLINE,
        code=("schemas.offline_share", "selector.dispatch.offline:OfflineDispatcher._rest_s"),
        unseen="simulated machines have no CPU time besides that of slots",
    ),
    AblatedMechanism(
        name="lanes",
        area=Area.OFFLINE,
        code=(f"{_HELD}:lane_of", "autoscaler.observe.snapshot_builder:with_lanes"),
        unseen="it bounds memory, and keeps a flood from hiding another tenant's queries in a topic",
        promise="tenants take turns",
    ),
)

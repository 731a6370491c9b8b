"""Switches of the overload control."""

from typing import Final

from bench.ablation.mechanism import AblatedMechanism, Area, argument, constant, given, returning

_OVERLOAD: Final = "selector.admission.overload"


OVERLOAD: Final = (
    AblatedMechanism(
        name="limits of waiting under overload",
        area=Area.OVERLOAD,
        code=(
            f"{_OVERLOAD}:Overload",
            f"{_OVERLOAD}:LoadShedder.review",
            "selector.admission.tenant_shares:fair_share",
        ),
        patches={f"{_OVERLOAD}:LoadShedder.review": argument(2)},
        promise="fair shares of tenants",
    ),
    AblatedMechanism(
        name="fair shares of tenants",
        area=Area.OVERLOAD,
        code=("selector.admission.tenant_shares:fair_share", f"{_OVERLOAD}:_UNDERSERVED", f"{_OVERLOAD}:_SERVED"),
        patches={f"{_OVERLOAD}:fair_share": returning(float("inf"))},
        promise="fair shares of tenants",
    ),
    AblatedMechanism(
        name="shares by cost, and less waiting for dear queries",
        area=Area.OVERLOAD,
        code=(f"{_OVERLOAD}:_COST_BAND",),
        patches={
            f"{_OVERLOAD}:Overload.allowed_wait_s": given(2, lambda _cost: 1.0),
            f"{_OVERLOAD}:Overload.admit": given(2, lambda _cost: 1.0),
        },
    ),
    AblatedMechanism(
        name="reserve for errors of predictions",
        area=Area.OVERLOAD,
        code=(f"{_OVERLOAD}:_WITHIN_SHARE",),
        patches={f"{_OVERLOAD}:_WITHIN_SHARE": constant(1.0)},
    ),
    AblatedMechanism(
        name="less waiting for tenants that received their share",
        area=Area.OVERLOAD,
        code=(f"{_OVERLOAD}:_SERVED", f"{_OVERLOAD}:Overload.admit"),
        patches={f"{_OVERLOAD}:_SERVED": constant(0.4)},
    ),
    AblatedMechanism(
        name="refusals that do not prolong an overload",
        area=Area.OVERLOAD,
        code=("selector.policy.choice:Refusal.is_calm",),
        patches={"selector.policy.choice:Refusal.is_calm": constant(property(lambda _refusal: False))},
    ),
    AblatedMechanism(
        name="cache of refusals",
        area=Area.OVERLOAD,
        code=(
            f"{_OVERLOAD}:RefusalCache",
            f"{_OVERLOAD}:_Refused",
            f"{_OVERLOAD}:LoadShedder._refused_alike",
            f"{_OVERLOAD}:_VALIDITY_SHARE",
            f"{_OVERLOAD}:_LONGEST_VALIDITY_S",
            f"{_OVERLOAD}:_MOST_REFUSALS",
        ),
        unseen="it spares CPU time of a selector: a refusal takes 15 µs instead of 44",
    ),
    AblatedMechanism(
        name="accounts of tenants with unproved names",
        area=Area.OVERLOAD,
        code=("selector.admission.tenant_shares:TenantAccounts",),
        unseen="it bounds the effect of invented names",
        promise="invented names take no shares",
    ),
)

"""Switches of the gateway's pacing."""

from typing import Final

from bench.ablation.mechanism import AblatedMechanism, Area, result, returning

_ADMISSION: Final = "gateway.limits.admission"
_CONCURRENCY: Final = "gateway.limits.concurrency"


GATEWAY: Final = (
    AblatedMechanism(
        name="refusals of the same question",
        area=Area.GATEWAY,
        code=(_ADMISSION,),
        patches={f"{_ADMISSION}:Admission.ask": returning(0)},
    ),
    AblatedMechanism(
        name="same question: answers admit further queries",
        area=Area.GATEWAY,
        code=(f"{_ADMISSION}:Admission.answered", f"{_ADMISSION}:_MOST_CREDIT"),
        patches={f"{_ADMISSION}:Admission.answered": returning(None)},
    ),
    AblatedMechanism(
        name="refused queries count as demand",
        area=Area.GATEWAY,
        code=(f"{_CONCURRENCY}:ConcurrencyLimit.take_rejected_upstream",),
        patches={
            f"{_ADMISSION}:Admission.ask": result(lambda _refused: 0),
            f"{_CONCURRENCY}:ConcurrencyLimit.take_rejected_upstream": returning(0),
        },
        promise="fair shares of tenants",
    ),
    AblatedMechanism(
        name="concurrency limit",
        area=Area.GATEWAY,
        code=(_CONCURRENCY,),
        patches={f"{_CONCURRENCY}:ConcurrencyLimits.enter": returning(None)},
    ),
    AblatedMechanism(
        name="concurrency limit: highest recent rate",
        area=Area.GATEWAY,
        code=(f"{_CONCURRENCY}:_FADE",),
        unseen="simulated queries take the same CPU time in waves of any size; real ones cost more in small waves, so "
        "a limit by the present rate lowers itself ([admission](explanation/admission.md#rejected))",
    ),
    AblatedMechanism(
        name="back-off",
        area=Area.GATEWAY,
        code=("gateway.limits.backoff",),
        unseen="simulated clients do not retry",
    ),
    AblatedMechanism(
        name="linger",
        area=Area.GATEWAY,
        code=("broker.arrivals:Linger",),
        unseen="it batches requests to Kafka; simulated records travel one by one",
    ),
    AblatedMechanism(
        name="bounds of connections, bodies and quotas",
        area=Area.GATEWAY,
        code=("gateway.limits.connections", "gateway.limits.arrivals", "gateway.limits.quotas"),
        unseen="simulations have neither connections nor bodies",
        promise="bounded memory; quotas of keys",
    ),
)

"""All mechanisms of the ablation, by name."""

from typing import Final

from bench.ablation.autoscaler import AUTOSCALER
from bench.ablation.gateway import GATEWAY
from bench.ablation.mechanism import AblatedMechanism
from bench.ablation.offline import OFFLINE
from bench.ablation.overload import OVERLOAD
from bench.ablation.selector import SELECTOR
from bench.ablation.worker import WORKER

MECHANISMS: Final[dict[str, AblatedMechanism]] = {
    one.name: one for one in (*SELECTOR, *OVERLOAD, *OFFLINE, *WORKER, *GATEWAY, *AUTOSCALER)
}

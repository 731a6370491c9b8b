"""Settings of the policy and of the autoscaler, halved and doubled."""

from typing import Final

from bench.ablation.trial import AblationTrial
from selector.policy.choice import PolicyConfig
from simulator.scenario import Scaling

_LEFT_OUT: Final = frozenset({"default_latency_s", "hop_s", "memory_share", "scale_to_zero_delay_s", "leader_grace_s"})
"""Facts and promises rather than settings to tune."""
SETTINGS: Final[dict[str, float]] = {
    f"{path}.{name}": value
    for path, struct in (("policy", PolicyConfig()), ("scaling.limits", Scaling().limits))
    for name in struct.__struct_fields__
    if isinstance(value := getattr(struct, name), float) and name not in _LEFT_OUT
}
"""Default of each setting that is a number, by its path in a scenario."""
_WORKLOADS: Final = {
    "policy": ("90 % load", "bursts"),
    "scaling": ("flash crowd, scaled", "bursty, scaled", "16 models by name, memory for 5"),
}


def sensitivity_trials(seed: int) -> list[AblationTrial]:
    """Return the trials of a seed."""
    return [
        AblationTrial(workload, seed, setting=setting, value=value * factor)
        for setting, value in SETTINGS.items()
        for factor in (0.5, 2.0)
        for workload in _WORKLOADS[setting.partition(".")[0]]
    ]

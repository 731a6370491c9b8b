"""Settings of the policy and of the autoscaler, and assumptions of the simulation, halved and doubled."""

from collections.abc import Sequence
from typing import Final

from bench.ablation.trial import AblationTrial
from selector.policy.choice import PolicyConfig
from simulator.scenario import Delays, Scaling, Workers

_LEFT_OUT: Final = frozenset({"default_latency_s", "hop_s", "memory_share", "scale_to_zero_delay_s", "leader_grace_s"})
"""Facts and promises rather than settings to tune."""
SETTINGS: Final[dict[str, float]] = {
    f"{path}.{name}": value
    for path, struct in (("policy", PolicyConfig()), ("scaling.limits", Scaling().limits))
    for name in struct.__struct_fields__
    if isinstance(value := getattr(struct, name), float) and name not in _LEFT_OUT
}
"""Default of each setting that is a number, by its path in a scenario."""
ASSUMPTIONS: Final[dict[str, float]] = {
    "workers.interference": Workers().interference,
    "workers.start_deviation": Workers().start_deviation,
    "delays.placement.p50_s": Delays().placement.p50_s,
    "delays.placement.p99_s": Delays().placement.p99_s,
    "delays.decision_s": Delays().decision_s,
    "delays.solve_s": Delays().solve_s,
}
"""Default of each value that the simulation assumes without a measurement of every machine, by its path."""
_FIXED: Final = ("90 % load", "bursts")
_SCALED: Final = ("flash crowd, scaled", "bursty, scaled", "16 models by name, memory for 5")
_WORKLOADS: Final = {
    "policy": _FIXED,
    "scaling": _SCALED,
    "workers": (*_FIXED, *_SCALED),
    "delays": _SCALED,
}


def sensitivity_trials(settings: Sequence[str], seeds: Sequence[int]) -> list[AblationTrial]:
    """Return the trials of settings or assumptions."""
    values = SETTINGS | ASSUMPTIONS
    return [
        AblationTrial(workload, seed, setting=setting, value=values[setting] * factor)
        for setting in settings
        for factor in (0.5, 2.0)
        for workload in _WORKLOADS[setting.partition(".")[0]]
        for seed in seeds
    ]

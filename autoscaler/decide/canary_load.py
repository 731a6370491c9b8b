"""Load of canaries: the share of their model's load, counted before they receive it.

The serving version stays sized for the whole load, because a rollback sends everything back to it at once. Selectors
count a query by its requested target, not by the version that answers. So in a task with several models, a canary's
share applies to the part of the load that its model answered recently, or to all of it if nothing was answered.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Variant
from schemas.rows.rollout import Rollout
from schemas.versions import Versions


def candidate_targets(versions: Versions) -> Iterator[tuple[str, str]]:
    """Yield pairs of task and candidate target of its models' rollouts, both canaries and shadows."""
    for task, rollouts in versions.rollouts.items():
        for rollout in rollouts:
            if rollout.is_canary or rollout.is_shadowed:
                yield task, rollout.candidate_target


def canary_loads(snapshot: ClusterSnapshot, variants: Mapping[str, Variant]) -> list[ClassLoad]:
    """Return the expected load of each canary, by load class."""
    found = list[ClassLoad]()
    for task, rollouts in snapshot.versions.rollouts.items():
        for rollout in rollouts:
            if rollout.is_canary:
                answered = _answered_share(snapshot, variants, task, rollout)
                found += (
                    _of_canary(load, rollout, answered) for load in snapshot.classes if _concerned(load, task, rollout)
                )
    return found


def _concerned(load: ClassLoad, task: str, rollout: Rollout) -> bool:
    asked = load.load_class
    return asked.task == task and not asked.offline and rollout.concerns(asked.target)


def _of_canary(load: ClassLoad, rollout: Rollout, answered: float) -> ClassLoad:
    asked = load.load_class
    share = rollout.share * (answered if asked.target is None else 1.0)
    return replace(
        load,
        load_class=replace(asked, target=rollout.candidate_target),
        inputs_per_s=share * load.inputs_per_s,
        peak_per_s=share * load.peak_per_s,
    )


def _answered_share(snapshot: ClusterSnapshot, variants: Mapping[str, Variant], task: str, rollout: Rollout) -> float:
    """Return the share of a task's answered inputs that came from versions of the rollout's model."""
    own = rollout.answering_targets | {rollout.candidate_target}
    rates = defaultdict[bool, float](float)
    for load in snapshot.instance_loads:
        variant = variants.get(load.variant)
        if variant is not None and variant.task == task:
            rates[not own.isdisjoint(snapshot.versions.targets_of(variant.architecture))] += load.inputs_per_s
    total = rates[True] + rates[False]
    return rates[True] / total if total > 0 else 1.0

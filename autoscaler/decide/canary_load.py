"""The load of versions that are tried: the share of their model's that they are to answer, before they are given it.

The version that serves stays sized for all of it: whoever rolls back sends everything there at once. A selector counts
a query by what it asks for, not by who answers it; so of a task with several models a candidate is to answer its share
of what its model answered lately, of all where nothing was answered.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Variant
from schemas.rows.rollout import Rollout
from schemas.versions import Versions


def candidate_targets(versions: Versions) -> Iterator[tuple[str, str]]:
    """Tasks, and what names the candidates of their models: canaries and those that are given copies."""
    for task, rollouts in versions.rollouts.items():
        for rollout in rollouts:
            if rollout.is_canary or rollout.is_shadowed:
                yield task, rollout.candidate_target


def canary_loads(snapshot: ClusterSnapshot, variants: Mapping[str, Variant]) -> list[ClassLoad]:
    """What each canary is to answer, by load class."""
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
    """Share of a task's answers that came from the versions of a model."""
    own = rollout.answering_targets | {rollout.candidate_target}
    rates = defaultdict[bool, float](float)
    for load in snapshot.instance_loads:
        variant = variants.get(load.variant)
        if variant is not None and variant.task == task:
            rates[not own.isdisjoint(snapshot.versions.targets_of(variant.architecture))] += load.inputs_per_s
    total = rates[True] + rates[False]
    return rates[True] / total if total > 0 else 1.0

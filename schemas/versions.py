"""What each version of each model may be asked as, by whoever chooses among variants: pure.

A version that serves answers to the name of its model and to no name at all, every version to `model@number`, and one
after the first to its own name as an architecture. A version after the first whose model has no row yet is being
registered, and does not serve. Of models with one version nothing is kept: they answer to their name.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec

from schemas.names import is_version, version_target
from schemas.rows.catalog import Architecture
from schemas.rows.rollout import Rollout

Targets: TypeAlias = frozenset[str | None]
"""Targets of queries that a variant may answer; None: those that name none."""


class Versions(msgspec.Struct, frozen=True):
    """Which versions answer to what, and the rollouts of each task."""

    targets: dict[str, Targets] = {}
    """By architecture, of those whose model has, or had, more than one version."""
    rollouts: dict[str, tuple[Rollout, ...]] = {}
    """By task."""

    def targets_of(self, architecture: str) -> Targets:
        """The targets of queries that an architecture may answer."""
        found = self.targets.get(architecture)
        return _of_only_version(architecture) if found is None else found

    def version_of(self, architecture: str) -> str:
        """What names the version that an architecture is, `model@2`; empty where its model has no other."""
        found = self.targets.get(architecture, ())
        return next((target for target in found if target is not None and is_version(target)), "")

    def serves(self, architecture: str) -> bool:
        """Whether an architecture answers who names none."""
        found = self.targets.get(architecture)
        return found is None or None in found

    def of_task(self, task: str, architectures: Iterable[str]) -> "Versions":
        """The part that concerns one task, which has these architectures."""
        targets = {name: self.targets[name] for name in architectures if name in self.targets}
        return Versions(targets, {task: self.rollouts[task]} if task in self.rollouts else {})


def versions_of(architectures: Mapping[str, Architecture], rollouts: Mapping[str, Rollout]) -> Versions:
    """What is to be known of versions where this is registered."""
    targets = dict[str, Targets]()
    by_task = defaultdict[str, dict[str, Rollout]](dict)
    for row in architectures.values():
        rollout = rollouts.get(row.model)
        if rollout is not None:
            by_task[row.task][row.model] = rollout
        if rollout is not None or row.version > 1:
            targets[row.name] = _targets(row, rollout)
    return Versions(targets, {task: tuple(found.values()) for task, found in by_task.items()})


@lru_cache(maxsize=4096)  # a decision on scale asks for each class and candidate
def _of_only_version(architecture: str) -> Targets:
    return frozenset((None, architecture, version_target(architecture, 1)))


def _targets(row: Architecture, rollout: Rollout | None) -> Targets:
    found: set[str | None] = {version_target(row.model, row.version)}
    if row.name != row.model:
        found.add(row.name)
    if rollout is not None and rollout.serving == row.version:
        found |= {None, row.model}
    return frozenset(found)

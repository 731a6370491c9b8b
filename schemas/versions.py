"""Targets of each model version: the names under which queries can reach it. Pure functions.

The serving version answers queries that name its model or no target. Every version answers to `model@number`, and each
version after the first also to its architecture's name. A version after the first whose model has no rollout row is
still being registered and does not serve. Models with a single version have no entry: the version answers to every name
of the model.
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
"""Targets of queries that a variant may answer; None: queries without a target."""


class Versions(msgspec.Struct, frozen=True):
    """Targets of each version, and the rollouts of each task."""

    targets: dict[str, Targets] = {}
    """Targets by architecture, for models that have, or had, more than one version."""
    rollouts: dict[str, tuple[Rollout, ...]] = {}
    """Rollouts by task."""

    def targets_of(self, architecture: str) -> Targets:
        """Return the targets of queries that an architecture may answer."""
        found = self.targets.get(architecture)
        return _of_only_version(architecture) if found is None else found

    def version_of(self, architecture: str) -> str:
        """Return the target of an architecture's version, `model@2`; empty if its model has only one version."""
        found = self.targets.get(architecture, ())
        return next((target for target in found if target is not None and is_version(target)), "")

    def serves(self, architecture: str) -> bool:
        """Return true if an architecture answers queries without a target."""
        found = self.targets.get(architecture)
        return found is None or None in found

    def of_task(self, task: str, architectures: Iterable[str]) -> "Versions":
        """Return the entries of one task with these architectures."""
        targets = {name: self.targets[name] for name in architectures if name in self.targets}
        return Versions(targets, {task: self.rollouts[task]} if task in self.rollouts else {})


def versions_of(architectures: Mapping[str, Architecture], rollouts: Mapping[str, Rollout]) -> Versions:
    """Return the targets of all versions for this catalog."""
    targets = dict[str, Targets]()
    by_task = defaultdict[str, dict[str, Rollout]](dict)
    for row in architectures.values():
        rollout = rollouts.get(row.model)
        if rollout is not None:
            by_task[row.task][row.model] = rollout
        if rollout is not None or row.version > 1:
            targets[row.name] = _targets(row, rollout)
    return Versions(targets, {task: tuple(found.values()) for task, found in by_task.items()})


@lru_cache(maxsize=4096)  # a scaling decision calls it for each class and candidate
def _of_only_version(architecture: str) -> Targets:
    return frozenset((None, architecture, version_target(architecture, 1)))


def _targets(row: Architecture, rollout: Rollout | None) -> Targets:
    found: set[str | None] = {version_target(row.model, row.version)}
    if row.name != row.model:
        found.add(row.name)
    if rollout is not None and rollout.serving == row.version:
        found |= {None, row.model}
    return frozenset(found)

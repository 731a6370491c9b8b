"""Versions of models: the assignment of queries to versions, the history of each version, and its targets.

One row of `rollouts` per model contains everything that a selector must know, so a rollback changes a single row. The
version of a query is drawn from its id alone, so every component and every retry gets the same version. A larger share
includes all queries of a smaller share.

Targets are the names under which queries can reach a version. The serving version answers queries that name its model
or no target. Every version answers to `model@number`, and each version after the first also to its architecture's name.
A version after the first whose model has no rollout row is still being registered and does not serve. Models with a
single version have no entry: the version answers to every name of the model.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from schemas.names import is_version, version_target
from schemas.rows.catalog import Architecture

_2_64: Final = 1 << 64


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """Roles of a model's versions. A version without a role is retired; it answers only queries that name it."""

    model: str
    serving: int
    """Version that answers queries that name no version."""
    previous: int | None = None
    """Version that served before. It answers until the serving version has an instance."""
    candidate: int | None = None
    """Version on trial."""
    share: float = 0.0
    """Share of the model's queries that the candidate answers, 0..1."""
    shadow: float = 0.0
    """Share of the model's queries that are copied to the candidate, 0..1."""
    changed_at: datetime | None = None

    @property
    def is_canary(self) -> bool:
        """True if the candidate answers clients."""
        return self.candidate is not None and self.share > 0.0

    @property
    def candidate_target(self) -> str:
        """Target of the candidate, which must exist."""
        return version_target(self.model, self.candidate or 0)

    @property
    def answering_targets(self) -> frozenset[str]:
        """Targets of the versions, other than the candidate, that answer queries."""
        return frozenset(version_target(self.model, v) for v in (self.serving, self.previous) if v is not None)

    @property
    def is_shadowed(self) -> bool:
        """True if the candidate gets copies of queries."""
        return self.candidate is not None and self.shadow > 0.0

    def concerns(self, target: str | None) -> bool:
        """Return true if a query with this target leaves the version open."""
        return target is None or target == self.model

    def draws(self, query_id: str) -> bool:
        """Return true if the candidate answers this query."""
        return self._lot("canary", query_id) < self.share

    def copies(self, query_id: str) -> bool:
        """Return true if the candidate gets a copy of this query."""
        return self._lot("shadow", query_id) < self.shadow

    def _lot(self, kind: str, query_id: str) -> float:
        """Return a number in 0..1 that is fixed for this query and candidate."""
        drawn = blake2b(f"{kind} {self.candidate_target} {query_id}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") / _2_64


class VersionComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the compared copies of queries of a version."""

    model: str
    version: int
    against: int
    """Version that answered the clients."""
    compared: int = 0
    failed: int = 0
    """Number of these copies that were answered with an error."""
    agreed: float = 0.0
    """Number of these copies whose answer equals that to the client; a batch counts by its share of equal inputs."""
    compute_s: float = 0.0
    """Total seconds of the batches in which the copies were computed."""
    against_compute_s: float = 0.0
    """Total seconds of the batches in which the clients' answers were computed."""

    def __add__(self, other: "VersionComparison") -> "VersionComparison":
        """Add two comparisons of the same versions."""
        return msgspec.structs.replace(
            self,
            compared=self.compared + other.compared,
            failed=self.failed + other.failed,
            agreed=self.agreed + other.agreed,
            compute_s=self.compute_s + other.compute_s,
            against_compute_s=self.against_compute_s + other.against_compute_s,
        )


class VersionEventKind(StrEnum):
    """Kind of event in the history of a version."""

    REGISTERED = "registered"
    SERVING = "serving"
    CANARY = "canary"
    SHADOW = "shadow"
    FINISHED = "finished"
    ROLLED_BACK = "rolled back"


class VersionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Event in the history of a version."""

    model: str
    version: int
    kind: VersionEventKind
    detail: str = ""
    by: str = ""
    """Caller that requested it, `user@host`."""
    at: datetime | None = None


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

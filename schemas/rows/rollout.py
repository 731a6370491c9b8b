"""Rows of the versions of a model: which one answers which queries, and what became of each.

One row a model says all that a selector must know, so that a rollback is one row that changes. A query's version is
drawn by its id alone: whoever looks at it, and whenever it is sent again, it meets the same one. A larger share draws
all that a smaller one drew.
"""

from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec

from schemas.names import version_target

_2_64: Final = 1 << 64


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of one model in their parts; what is not named here is retired, and answers who names it."""

    model: str
    serving: int
    """The version that answers whoever does not name one."""
    previous: int | None = None
    """The one that served before: it stands in until the one that serves has an instance."""
    candidate: int | None = None
    """The one that is tried."""
    share: float = 0.0
    """Share of the queries of the model that the candidate answers, 0..1."""
    shadow: float = 0.0
    """Share of the queries of the model that the candidate is given a copy of, 0..1."""
    changed_at: datetime | None = None

    @property
    def is_canary(self) -> bool:
        """Whether the candidate answers clients."""
        return self.candidate is not None and self.share > 0.0

    @property
    def candidate_target(self) -> str:
        """What names the candidate; there is one."""
        return version_target(self.model, self.candidate or 0)

    @property
    def answering_targets(self) -> frozenset[str]:
        """What names the versions that answer but for the candidate."""
        return frozenset(version_target(self.model, v) for v in (self.serving, self.previous) if v is not None)

    @property
    def is_shadowed(self) -> bool:
        """Whether the candidate is given copies."""
        return self.candidate is not None and self.shadow > 0.0

    def concerns(self, target: str | None) -> bool:
        """Whether a query with this target leaves the version open."""
        return target is None or target == self.model

    def draws(self, query_id: str) -> bool:
        """Whether a query is among those that the candidate answers."""
        return self._lot("canary", query_id) < self.share

    def copies(self, query_id: str) -> bool:
        """Whether the candidate is given a copy of a query."""
        return self._lot("shadow", query_id) < self.shadow

    def _lot(self, kind: str, query_id: str) -> float:
        """A number of 0..1 that each query has once and for all for this candidate."""
        drawn = blake2b(f"{kind} {self.candidate_target} {query_id}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") / _2_64


class VersionComparison(msgspec.Struct, frozen=True, kw_only=True):
    """What copies of queries showed of a version, in sums."""

    model: str
    version: int
    against: int
    """The version that answered the clients."""
    compared: int = 0
    failed: int = 0
    """Copies, of these, that were answered with an error."""
    agreed: float = 0.0
    """Of these, how many came out as what the clients were answered; of a batch the share of its inputs."""
    compute_s: float = 0.0
    """Seconds that the batches took in which the copies were computed."""
    against_compute_s: float = 0.0
    """The same of what the clients were answered."""

    def __add__(self, other: "VersionComparison") -> "VersionComparison":
        """Both together; they are of the same versions."""
        return msgspec.structs.replace(
            self,
            compared=self.compared + other.compared,
            failed=self.failed + other.failed,
            agreed=self.agreed + other.agreed,
            compute_s=self.compute_s + other.compute_s,
            against_compute_s=self.against_compute_s + other.against_compute_s,
        )


class VersionEventKind(StrEnum):
    """What happened to a version."""

    REGISTERED = "registered"
    SERVING = "serving"
    CANARY = "canary"
    SHADOW = "shadow"
    FINISHED = "finished"
    ROLLED_BACK = "rolled back"


class VersionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a version of a model."""

    model: str
    version: int
    kind: VersionEventKind
    detail: str = ""
    by: str = ""
    """Who asked for it: `user@host`."""
    at: datetime | None = None

"""Version endpoints of the admin API: history of a model's versions, rollout and rollback."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint
from schemas.principal import Role
from schemas.rows.catalog import Architecture
from schemas.rows.rollout import Rollout, VersionComparison, VersionEvent

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
VersionNumber = Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the versions of a model."""

    model: str


class ModelHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of a model, with their rollout and its history."""

    versions: tuple[Architecture, ...]
    rollout: Rollout
    events: tuple[VersionEvent, ...]
    comparisons: tuple[VersionComparison, ...]
    """Comparisons of answers on copies of queries."""


class RolloutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to try a version, or to make it serve."""

    model: str
    version: VersionNumber | None = None
    """Null: the version on trial, or else the newest."""
    share: Share | None = None
    """Share of the queries that the version answers, 0..1; null: unchanged."""
    shadow: Share | None = None
    """Share of the queries that are copied to the version, 0..1; null: unchanged."""
    finish: bool = False
    """True to make the version serve instead of the present one."""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to end the trial of a version; if none is on trial, the previous version serves again."""

    model: str


class RolloutChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a rollout or rollback."""

    history: ModelHistory
    warnings: tuple[str, ...] = ()
    """Warnings about the new state; empty: none."""


HISTORY: Final = Endpoint(
    name="models.history",
    method="GET",
    path="/v1/models/{model}/history",
    role=Role.QUERY,
    request=HistoryRequest,
    result=ModelHistory,
    summary="List the versions of a model with their states, and all rollouts and rollbacks.",
)
ROLLOUT: Final = Endpoint(
    name="models.rollout",
    method="POST",
    path="/v1/models/{model}/rollout",
    role=Role.PUBLISH,
    request=RolloutRequest,
    result=RolloutChanged,
    summary="Try a version of a model on a share of its queries, or make it serve.",
)
ROLLBACK: Final = Endpoint(
    name="models.rollback",
    method="POST",
    path="/v1/models/{model}/rollback",
    role=Role.PUBLISH,
    request=RollbackRequest,
    result=RolloutChanged,
    summary="Withdraw the version under trial; if there is none, the previous version serves again.",
)
VERSIONS: Final = (HISTORY, ROLLOUT, ROLLBACK)

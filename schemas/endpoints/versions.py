"""Versions of a model over the admin API: which there are, which answers, and a person's word on that."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint
from schemas.principal import Role
from schemas.rows.catalog import Architecture
from schemas.rows.rollout import Rollout, VersionComparison, VersionEvent

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
VersionNumber = Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a model are wanted."""

    model: str


class ModelHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a model, what answers, and what happened."""

    versions: tuple[Architecture, ...]
    rollout: Rollout
    events: tuple[VersionEvent, ...]
    comparisons: tuple[VersionComparison, ...]
    """What copies of queries showed."""


class RolloutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A version is to be tried, or to serve."""

    model: str
    version: VersionNumber | None = None
    """None: the one that is tried, or else the newest."""
    share: Share | None = None
    """Share of the queries that it answers; None: as it is."""
    shadow: Share | None = None
    """Share of the queries that it is given a copy of; None: as it is."""
    finish: bool = False
    """Whether it is to serve instead of the one that does."""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried is to answer nothing any more; where nothing is, the version before is to serve again."""

    model: str


class RolloutChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What answers now."""

    history: ModelHistory
    warnings: tuple[str, ...] = ()
    """What whoever changed it should know."""


HISTORY: Final = Endpoint(
    name="models.history",
    method="GET",
    path="/v1/models/{model}/history",
    role=Role.QUERY,
    request=HistoryRequest,
    result=ModelHistory,
    summary="List the versions of a model: what each does, and every rollout and rollback.",
)
ROLLOUT: Final = Endpoint(
    name="models.rollout",
    method="POST",
    path="/v1/models/{model}/rollout",
    role=Role.PUBLISH,
    request=RolloutRequest,
    result=RolloutChanged,
    summary="Try a version of a model on a share of its queries, or have it serve.",
)
ROLLBACK: Final = Endpoint(
    name="models.rollback",
    method="POST",
    path="/v1/models/{model}/rollback",
    role=Role.PUBLISH,
    request=RollbackRequest,
    result=RolloutChanged,
    summary="Have the version that is tried answer nothing from now on; if none is, the one before serve again.",
)
VERSIONS: Final = (HISTORY, ROLLOUT, ROLLBACK)

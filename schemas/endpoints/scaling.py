"""Scaling endpoints of the admin API: present scale, decisions with their reasons, pins, and pausing."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Empty, Endpoint, PageSize
from schemas.principal import Role
from schemas.rows.cluster import ClusterRows
from schemas.rows.scaling import DecisionRow, Pin, PinKind

MAX_EXPLAINED: Final = 100
MAX_PINNED: Final = 10_000
PinBound = Annotated[int, msgspec.Meta(ge=0, le=MAX_PINNED)]
"""Number of instances or workers; a larger value is treated as a mistake."""


class DecisionsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed scaling decisions."""

    about: str | None = None
    """Task, architecture, variant, worker or hardware; null: all decisions."""
    latest: PageSize = 20
    """Maximum number of decisions."""


class ExplanationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to explain the scale of something."""

    about: str
    """Task, architecture, variant, worker or hardware."""
    latest: Annotated[int, msgspec.Meta(ge=1, le=MAX_EXPLAINED)] = 1
    """Maximum number of decisions."""


class PinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on a number of instances or workers; they replace the previous bounds."""

    kind: PinKind
    name: str
    minimum: PinBound | None = None
    """Lower bound, even without load."""
    maximum: PinBound | None = None
    """Upper bound, at any load."""


class UnpinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to remove a pin, so that load alone determines the number again."""

    kind: PinKind
    name: str


class ScaleHold(msgspec.Struct, frozen=True, kw_only=True):
    """State of the pause of scaling."""

    paused: bool
    changed: bool
    """True if this request changed the state."""


STATUS: Final = Endpoint(
    name="scale.status",
    method="GET",
    path="/v1/scale",
    role=Role.ADMIN,
    request=Empty,
    result=ClusterRows,
    summary="Show workers and instances, wanted and running, pins, and whether scaling is paused.",
)
HISTORY: Final = Endpoint(
    name="scale.history",
    method="GET",
    path="/v1/scale/decisions",
    role=Role.ADMIN,
    request=DecisionsRequest,
    result=list[DecisionRow],
    summary="List scaling decisions with their reasons, the latest last.",
)
EXPLAIN: Final = Endpoint(
    name="scale.explain",
    method="GET",
    path="/v1/scale/explanations",
    role=Role.ADMIN,
    request=ExplanationRequest,
    result=list[DecisionRow],
    summary="Show the last decisions on an object with all their inputs, the latest first.",
)
PIN: Final = Endpoint(
    name="scale.pin",
    method="PUT",
    path="/v1/scale/pins/{kind}/{name}",
    role=Role.ADMIN,
    request=PinRequest,
    result=Pin,
    summary="Set bounds on the instances of a task or variant, or the workers of a hardware. Replaces earlier bounds.",
)
UNPIN: Final = Endpoint(
    name="scale.unpin",
    method="DELETE",
    path="/v1/scale/pins/{kind}/{name}",
    role=Role.ADMIN,
    request=UnpinRequest,
    result=Empty,
    summary="Remove bounds; only load decides again.",
)
PAUSE: Final = Endpoint(
    name="scale.pause",
    method="POST",
    path="/v1/scale/pause",
    role=Role.ADMIN,
    request=Empty,
    result=ScaleHold,
    summary="Pause scaling, regardless of load. Idempotent.",
)
RESUME: Final = Endpoint(
    name="scale.resume",
    method="POST",
    path="/v1/scale/resume",
    role=Role.ADMIN,
    request=Empty,
    result=ScaleHold,
    summary="Resume scaling by load. Idempotent.",
)
SCALING: Final = (STATUS, HISTORY, EXPLAIN, PIN, UNPIN, PAUSE, RESUME)

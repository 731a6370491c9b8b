"""The scale over the admin API: what it is, what was decided and why, and what people bound or hold of it."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Nothing, Some
from schemas.principal import Role
from schemas.rows.cluster import ClusterRows
from schemas.rows.scaling import DecisionRow, Pin, PinKind

MAX_EXPLAINED: Final = 100
MAX_PINNED: Final = 10_000
PinBound = Annotated[int, msgspec.Meta(ge=0, le=MAX_PINNED)]
"""A number of instances or workers; more than these nobody has meant."""


class DecisionsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions that are to be listed."""

    about: str | None = None
    """A task, an architecture, a variant, a worker or a hardware; None: anything."""
    latest: Some = 20
    """How many."""


class ExplanationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person does not understand."""

    about: str
    """A task, an architecture, a variant, a worker or a hardware."""
    latest: Annotated[int, msgspec.Meta(ge=1, le=MAX_EXPLAINED)] = 1
    """How many decisions."""


class PinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that something is to have, instead of those it had."""

    kind: PinKind
    name: str
    minimum: PinBound | None = None
    """At least so many, even without load."""
    maximum: PinBound | None = None
    """At most so many, whatever the load."""


class UnpinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to follow load alone again."""

    kind: PinKind
    name: str


class ScaleHold(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the scale is held as it is."""

    paused: bool
    changed: bool
    """Whether that was otherwise before."""


STATUS: Final = Endpoint(
    name="scale.status",
    method="GET",
    path="/v1/scale",
    role=Role.ADMIN,
    request=Nothing,
    result=ClusterRows,
    summary="Workers and instances, what is wanted against what there is, pins, and whether the scale is held.",
)
HISTORY: Final = Endpoint(
    name="scale.history",
    method="GET",
    path="/v1/scale/decisions",
    role=Role.ADMIN,
    request=DecisionsRequest,
    result=list[DecisionRow],
    summary="What was decided, latest last, and why.",
)
EXPLAIN: Final = Endpoint(
    name="scale.explain",
    method="GET",
    path="/v1/scale/explanations",
    role=Role.ADMIN,
    request=ExplanationRequest,
    result=list[DecisionRow],
    summary="The last decisions about something, latest first, with everything that they were made from.",
)
PIN: Final = Endpoint(
    name="scale.pin",
    method="PUT",
    path="/v1/scale/pins/{kind}/{name}",
    role=Role.ADMIN,
    request=PinRequest,
    result=Pin,
    summary="Bound the instances of a task or a variant, or the workers of a hardware; replaces the bounds it had.",
)
UNPIN: Final = Endpoint(
    name="scale.unpin",
    method="DELETE",
    path="/v1/scale/pins/{kind}/{name}",
    role=Role.ADMIN,
    request=UnpinRequest,
    result=Nothing,
    summary="Take bounds away: load alone decides again.",
)
PAUSE: Final = Endpoint(
    name="scale.pause",
    method="POST",
    path="/v1/scale/pause",
    role=Role.ADMIN,
    request=Nothing,
    result=ScaleHold,
    summary="Hold the scale as it is, whatever the load; again changes nothing.",
)
RESUME: Final = Endpoint(
    name="scale.resume",
    method="POST",
    path="/v1/scale/resume",
    role=Role.ADMIN,
    request=Nothing,
    result=ScaleHold,
    summary="Let the scale follow load again; again changes nothing.",
)
SCALING: Final = (STATUS, HISTORY, EXPLAIN, PIN, UNPIN, PAUSE, RESUME)

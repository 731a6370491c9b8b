"""Removal endpoints of the admin API: unregister tasks, models and variants, after a preview.

A removal takes longer than one request. An accepted removal is stored and survives restarts; its number gives its
status.
"""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Number
from schemas.principal import Role
from schemas.rows.removals import Removal, RemovalPlan, RemovalRequest


class RemovalPlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a preview of a removal."""

    name: str
    """Variant, model, version (`MODEL@2`), or task with everything that belongs to it."""


class RemovalStatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the status of a removal."""

    id: Number


PLAN_REMOVAL: Final = Endpoint(
    name="removals.plan",
    method="GET",
    path="/v1/removal-plans/{name}",
    role=Role.PUBLISH,
    request=RemovalPlanRequest,
    result=RemovalPlan,
    summary="Say what would go with a variant, a model, a version or a task, and whether it is used.",
)
BEGIN_REMOVAL: Final = Endpoint(
    name="removals.begin",
    method="POST",
    path="/v1/removals",
    role=Role.PUBLISH,
    request=RemovalRequest,
    result=Removal,
    summary="Unregister a variant, a model, a version or a task: its queries are answered first. It goes on after the "
    "answer, which has its number; asked again before it ends, it is the same, and after it failed it goes on.",
)
SHOW_REMOVAL: Final = Endpoint(
    name="removals.show",
    method="GET",
    path="/v1/removals/{id}",
    role=Role.PUBLISH,
    request=RemovalStatusRequest,
    result=Removal,
    summary="Say how far a removal is, and what came of it; its tenant asks, or an administrator.",
)
REMOVALS: Final = (PLAN_REMOVAL, BEGIN_REMOVAL, SHOW_REMOVAL)

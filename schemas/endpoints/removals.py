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
    summary="Show what the removal of a variant, model, version or task would delete, and its uses.",
)
BEGIN_REMOVAL: Final = Endpoint(
    name="removals.begin",
    method="POST",
    path="/v1/removals",
    role=Role.PUBLISH,
    request=RemovalRequest,
    result=Removal,
    summary=(
        "Unregister a variant, model, version or task after its queries are answered. The response has the removal's "
        "id; the removal continues afterwards. A repeated request returns the open removal, or continues a failed "
        "one."
    ),
)
SHOW_REMOVAL: Final = Endpoint(
    name="removals.show",
    method="GET",
    path="/v1/removals/{id}",
    role=Role.PUBLISH,
    request=RemovalStatusRequest,
    result=Removal,
    summary="Show the progress and the result of a removal, for its tenant and administrators.",
)
REMOVALS: Final = (PLAN_REMOVAL, BEGIN_REMOVAL, SHOW_REMOVAL)

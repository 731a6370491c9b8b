"""Access endpoints of the admin API: owner and visibility of tasks and models."""

from typing import Annotated, Final

import msgspec

from schemas.access import Access, Visibility
from schemas.endpoints.endpoint import Endpoint
from schemas.principal import Role

_Tenants = Annotated[frozenset[str], msgspec.Meta(max_length=1000)]


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the owner and visibility of a task or model."""

    name: str
    """Task, or model with all its versions."""


class AccessChange(msgspec.Struct, frozen=True, kw_only=True):
    """Change of the owner or visibility of a task or model."""

    name: str
    """Task, or model with all its versions."""
    visibility: Visibility
    owner: str | None = None
    """New owner; null: the owner does not change."""
    shared_with: _Tenants = frozenset()
    """Tenants that may also use it if `visibility` is `shared`."""


class AccessOf(msgspec.Struct, frozen=True):
    """Task or model with its owner and visibility."""

    name: str
    access: Access


SHOW_ACCESS: Final = Endpoint(
    name="access.show",
    method="GET",
    path="/v1/access/{name}",
    role=Role.QUERY,
    request=AccessRequest,
    result=AccessOf,
    summary="Show the owner and visibility of a task or model.",
)
SET_ACCESS: Final = Endpoint(
    name="access.set",
    method="PUT",
    path="/v1/access/{name}",
    role=Role.PUBLISH,
    request=AccessChange,
    result=list[AccessOf],
    summary=(
        "Change the owner or visibility of a task or model; returns derived models whose access was restricted as well."
    ),
)
ACCESS: Final = (SHOW_ACCESS, SET_ACCESS)

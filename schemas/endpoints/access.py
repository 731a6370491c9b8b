"""Whose a task or a model is, over the admin API, and who may use it."""

from typing import Annotated, Final

import msgspec

from schemas.access import Access, Visibility
from schemas.endpoints.endpoint import Endpoint
from schemas.principal import Role

_Tenants = Annotated[frozenset[str], msgspec.Meta(max_length=1000)]


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose something is, is wanted."""

    name: str
    """A task, or a model with all its versions."""


class AccessChange(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to use something from now on."""

    name: str
    """A task, or a model with all its versions."""
    visibility: Visibility
    owner: str | None = None
    """Tenant that it is to belong to; None: as it does."""
    shared_with: _Tenants = frozenset()
    """Tenants that are to use it as well, where it is shared."""


class AccessOf(msgspec.Struct, frozen=True):
    """Whose a task or a model is, and who may use it."""

    name: str
    access: Access


SHOW_ACCESS: Final = Endpoint(
    name="access.show",
    method="GET",
    path="/v1/access/{name}",
    role=Role.QUERY,
    request=AccessRequest,
    result=AccessOf,
    summary="Show whose a task or a model is, and who may use it.",
)
SET_ACCESS: Final = Endpoint(
    name="access.set",
    method="PUT",
    path="/v1/access/{name}",
    role=Role.PUBLISH,
    request=AccessChange,
    result=list[AccessOf],
    summary="Change who may use a task or a model, at once; says what is made of it and was narrowed with it.",
)
ACCESS: Final = (SHOW_ACCESS, SET_ACCESS)

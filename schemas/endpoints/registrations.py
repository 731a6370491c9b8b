"""Registration endpoints of the admin API. The registrar executes each stored registration; its id gives the status."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, PageSize
from schemas.principal import Role
from schemas.registrations import (
    CascadeToRegister,
    ChainToRegister,
    ListedRegistration,
    ModelToRegister,
    RegistrationStatus,
)


class RegistrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one registration."""

    id: str


class RegistrationsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a list of registrations."""

    limit: PageSize = 100


_ACCEPTED: Final = 202
MODEL: Final = Endpoint(
    name="registrations.model",
    method="POST",
    path="/v1/registrations",
    role=Role.PUBLISH,
    request=ModelToRegister,
    result=RegistrationStatus,
    summary="Register a model from uploaded files. Idempotent.",
    status=_ACCEPTED,
)
CASCADE: Final = Endpoint(
    name="registrations.cascade",
    method="POST",
    path="/v1/registrations/cascades",
    role=Role.PUBLISH,
    request=CascadeToRegister,
    result=RegistrationStatus,
    summary="Register a cascade of two variants, or search for worthwhile cascades. Idempotent.",
    status=_ACCEPTED,
)
CHAIN: Final = Endpoint(
    name="registrations.chain",
    method="POST",
    path="/v1/registrations/chains",
    role=Role.PUBLISH,
    request=ChainToRegister,
    result=RegistrationStatus,
    summary="Register a chain of tasks, which is a task itself. Idempotent.",
    status=_ACCEPTED,
)
LIST: Final = Endpoint(
    name="registrations.list",
    method="GET",
    path="/v1/registrations",
    role=Role.PUBLISH,
    request=RegistrationsRequest,
    result=list[ListedRegistration],
    summary="List the registrations of the caller's tenant, for administrators of all tenants; the latest first.",
)
SHOW: Final = Endpoint(
    name="registrations.show",
    method="GET",
    path="/v1/registrations/{id}",
    role=Role.PUBLISH,
    request=RegistrationRequest,
    result=RegistrationStatus,
    summary="Show the progress and the result of a registration.",
)
CANCEL: Final = Endpoint(
    name="registrations.cancel",
    method="DELETE",
    path="/v1/registrations/{id}",
    role=Role.PUBLISH,
    request=RegistrationRequest,
    result=RegistrationStatus,
    summary="Cancel a registration that has not ended; ready variants are kept.",
)
REGISTRATIONS: Final = (MODEL, CASCADE, CHAIN, LIST, SHOW, CANCEL)

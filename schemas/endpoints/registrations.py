"""Registration endpoints of the admin API. The registrar executes each stored registration; its id gives the status."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Some
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

    limit: Some = 100


_ACCEPTED: Final = 202
MODEL: Final = Endpoint(
    name="registrations.model",
    method="POST",
    path="/v1/registrations",
    role=Role.PUBLISH,
    request=ModelToRegister,
    result=RegistrationStatus,
    summary="Register a model of files that were uploaded; the same twice is the same model.",
    status=_ACCEPTED,
)
CASCADE: Final = Endpoint(
    name="registrations.cascade",
    method="POST",
    path="/v1/registrations/cascades",
    role=Role.PUBLISH,
    request=CascadeToRegister,
    result=RegistrationStatus,
    summary="Register a cascade of two variants, or those that are found to be worth it; again, it is the same.",
    status=_ACCEPTED,
)
CHAIN: Final = Endpoint(
    name="registrations.chain",
    method="POST",
    path="/v1/registrations/chains",
    role=Role.PUBLISH,
    request=ChainToRegister,
    result=RegistrationStatus,
    summary="Register a chain of tasks, which is a task itself; the same twice is the same chain.",
    status=_ACCEPTED,
)
LIST: Final = Endpoint(
    name="registrations.list",
    method="GET",
    path="/v1/registrations",
    role=Role.PUBLISH,
    request=RegistrationsRequest,
    result=list[ListedRegistration],
    summary="Registrations of one's own tenant, the latest first; for administrators of all.",
)
SHOW: Final = Endpoint(
    name="registrations.show",
    method="GET",
    path="/v1/registrations/{id}",
    role=Role.PUBLISH,
    request=RegistrationRequest,
    result=RegistrationStatus,
    summary="How far a registration is, and what came of it.",
)
CANCEL: Final = Endpoint(
    name="registrations.cancel",
    method="DELETE",
    path="/v1/registrations/{id}",
    role=Role.PUBLISH,
    request=RegistrationRequest,
    result=RegistrationStatus,
    summary="Cancel a registration that has not ended; what it has made stays.",
)
REGISTRATIONS: Final = (MODEL, CASCADE, CHAIN, LIST, SHOW, CANCEL)

"""Which function does what an endpoint of the admin API asks for."""

from typing import Final, TypeVar

from admin import (
    access,
    audit,
    catalog,
    dead_letters,
    jobs,
    keys,
    lag,
    registrations,
    removals,
    scaling,
    system,
    tenants,
    uploads,
    versions,
)
from admin.control import Control
from schemas.endpoints.endpoint import Endpoint

Q = TypeVar("Q")
R = TypeVar("R")

_NOUNS: Final = (
    catalog,
    versions,
    removals,
    access,
    scaling,
    lag,
    audit,
    jobs,
    system,
    keys,
    tenants,
    dead_letters,
    uploads,
    registrations,
)
_ACTS: Final = dict(binding for noun in _NOUNS for binding in noun.BINDINGS)


async def handle(endpoint: Endpoint[Q, R], control: Control, request: Q) -> R:
    """Do what an endpoint asks for.

    Raises:
        InfaasError: it cannot be done; which one says why (see the package).
        StoreUnavailable: Postgres is away.
    """
    return await _ACTS[endpoint.name](control, request)


def handled() -> frozenset[str]:
    """Names of the endpoints that something is done for: all of them."""
    return frozenset(_ACTS)

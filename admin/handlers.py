"""Dispatch of requests of the admin API to the functions that implement them."""

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
from admin.control import RequestContext
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


async def handle(endpoint: Endpoint[Q, R], control: RequestContext, request: Q) -> R:
    """Execute the request of an endpoint.

    Raises:
        InfaasError: the request failed; its type tells why (see the package).
        StoreUnavailable: Postgres is unavailable.
    """
    return await _ACTS[endpoint.name](control, request)


def handled() -> frozenset[str]:
    """Return the names of all implemented endpoints."""
    return frozenset(_ACTS)

"""Binding of a function to an endpoint of the admin API; type checkers compare their types."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from admin.control import RequestContext
from schemas.endpoints.endpoint import Endpoint

Q = TypeVar("Q")
R = TypeVar("R")


class Binding(NamedTuple):
    """Name of an endpoint and the function that implements it."""

    name: str
    act: Callable[[RequestContext, Any], Awaitable[Any]]


def bind(endpoint: Endpoint[Q, R], act: Callable[[RequestContext, Q], Awaitable[R]]) -> Binding:
    """Return the binding of an endpoint to `act`."""
    return Binding(endpoint.name, act)

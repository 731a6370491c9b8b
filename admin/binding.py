"""What does what an endpoint asks for: a function, whose types are the endpoint's."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from admin.control import Control
from schemas.endpoints.endpoint import Endpoint

Q = TypeVar("Q")
R = TypeVar("R")


class Binding(NamedTuple):
    """An endpoint's name, and the function that does it."""

    name: str
    act: Callable[[Control, Any], Awaitable[Any]]


def bind(endpoint: Endpoint[Q, R], act: Callable[[Control, Q], Awaitable[R]]) -> Binding:
    """Have an endpoint's requests done by `act`."""
    return Binding(endpoint.name, act)

"""What a way to ask must do: carry a query there and bring back its result."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from schemas.oip import EncodedMessage
from schemas.result import Result


class EncodedQuery(msgspec.Struct, frozen=True):
    """A query as it is sent: its tensors encoded, its needs as headers."""

    id: str
    task: str
    message: EncodedMessage
    fields: Mapping[str, str]
    """Headers that say what is needed of the answer."""
    timeout_s: float
    """Longest wait for the result, once a slot is free."""
    latency_s: float | None = None
    """How soon the answer is needed, if that matters."""
    begun_s: float = 0.0
    """When it was asked for, in seconds of `time.perf_counter`."""


class Transport(Protocol):
    """A way to ask: an async context manager that sends queries and returns their results."""

    async def __aenter__(self) -> Self:
        """Open the connections."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the connections; whoever still waits gets an error."""
        ...

    async def ask(self, query: EncodedQuery) -> Result:
        """Wait for a free slot, send the query, and wait for its result, which may stand for an error.

        Raises:
            DeadlineExceeded: there was no result in time.
            Internal: the gateway cannot be reached.
            Overloaded: Kafka does not take the query.
        """
        ...

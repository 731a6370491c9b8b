"""Protocol of a transport, which sends queries and returns their results."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self

import msgspec

from broker.replies.answer_stream import AnswerEvent
from schemas.oip import EncodedMessage
from schemas.query_names import Parameter
from schemas.result import Result


class EncodedQuery(msgspec.Struct, frozen=True):
    """Encoded query: tensors as bytes, needs as headers."""

    id: str
    task: str
    message: EncodedMessage
    fields: Mapping[str, str]
    """Headers with the needs and options of the query."""
    timeout_s: float
    """Maximum wait for the result, in seconds, once a slot is free."""
    latency_s: float | None = None
    """Deadline of the answer, in seconds from the call; None if there is none."""
    begun_s: float = 0.0
    """Start of the call, in seconds of `time.perf_counter`."""
    prompt: str = ""
    """Prompt, or chat in JSON, of a query whose answer is wanted in parts."""
    parameters: Mapping[str, Parameter] = {}
    """Parameters of such a query."""


class Transport(Protocol):
    """Transport of queries; an async context manager."""

    async def __aenter__(self) -> Self:
        """Open the connections."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the connections; waiting calls get an error."""
        ...

    async def ask(self, query: EncodedQuery) -> Result:
        """Wait for a free slot, send the query, and wait for its result, which may represent an error.

        Raises:
            DeadlineExceeded: there was no result in time.
            Internal: the gateway cannot be reached.
            Overloaded: Kafka does not accept the query.
        """
        ...

    def stream(self, query: EncodedQuery) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        """Return a context with the parts of an answer, which ends with its result; the iterator raises as `ask`.

        `query.timeout_s` limits the time between two parts.
        """
        ...

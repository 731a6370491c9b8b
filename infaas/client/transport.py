"""What a way to ask must do: carry one question and bring back its result."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from schemas.oip import EncodedMessage
from schemas.result import Result


class EncodedQuery(msgspec.Struct, frozen=True):
    """One question, encoded."""

    id: str
    task: str
    message: EncodedMessage
    fields: Mapping[str, str]
    """The headers that say what is needed of the answer."""
    timeout_s: float
    """How long to wait for the result once the question is on its way."""


class Transport(Protocol):
    """An async context manager that asks."""

    async def __aenter__(self) -> Self:
        """Connect."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Disconnect; whoever still waits gets an error."""
        ...

    async def ask(self, call: EncodedQuery) -> Result:
        """Wait for a free slot, send, and wait for the result, which may stand for an error.

        Raises:
            DeadlineExceeded: there was no result in time.
            Internal: the gateway cannot be reached.
            Overloaded: Kafka does not take the question.
        """
        ...

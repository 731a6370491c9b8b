"""Answer of one generative query as it is made: an asynchronous iterator over its parts, which ends with its result.

    async with stream_answer(lambda on_part: requests.ask(..., on_part=on_part)) as events:
        async for event in events:
            ...  # AnswerPart: text that follows; AnswerRestart: the text so far is void; Result: the last event

Leaving the context ends the request. Its worker learns that at its next part, and stops the computation.

A part costs no task. While the caller does not take them, parts are joined (`GrowingAnswer`), so no sender waits for a
slow caller, and the buffer is bounded by the answer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Self, TypeAlias

import msgspec

from schemas.generated_answer import AnswerRestart, GrowingAnswer, read_answers
from schemas.generation import AnswerPart
from schemas.result import OK, Result

log = logging.getLogger(__name__)

OnPart: TypeAlias = Callable[[str, int, bytes], None]
"""Callback with the attempt, the number and the value of a part; raises nothing."""
AnswerEvent: TypeAlias = AnswerPart | AnswerRestart | Result

_decode_part: Final = msgspec.json.Decoder(AnswerPart).decode


class AnswerStream:
    """Events of one answer; its last one is the result, whatever its status."""

    def __init__(self) -> None:
        self._answer = GrowingAnswer()
        self._outcome: Result | Exception | None = None
        self._ended = False
        self._news = asyncio.Event()

    def take_part(self, attempt: str, number: int, value: bytes) -> None:
        """Accept a part; see `OnPart`."""
        try:
            self._answer.add(attempt, number, _decode_part(value))
        except msgspec.MsgspecError as error:
            log.debug("received a malformed part of an answer: %s", error)
        self._news.set()

    async def run(self, ask: Callable[[OnPart], Awaitable[Result]]) -> None:
        """Send the request, and wait for its result; an error is raised to the reader."""
        try:
            self._finish(await ask(self.take_part))
        except Exception as error:  # noqa: BLE001 - the reader gets it
            self._outcome = error
        finally:
            self._news.set()

    def _finish(self, result: Result) -> None:
        if result.status == OK:
            answers = read_answers(result)
            if len(answers) == 1:
                self._answer.finish(answers[0])
        self._outcome = result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnswerEvent:
        """Return the next event.

        Raises:
            InfaasError: the request failed without a result, as `RequestReply.ask` says.
        """
        while not self._ended:
            self._news.clear()
            event = self._answer.take() or self._last()
            if event is not None:
                return event
            await self._news.wait()
        raise StopAsyncIteration

    def _last(self) -> Result | None:
        outcome, self._ended = self._outcome, self._outcome is not None
        if isinstance(outcome, Exception):
            self._outcome = None  # else the error and this stream would refer to each other
            raise outcome
        return outcome


@asynccontextmanager
async def stream_answer(ask: Callable[[OnPart], Awaitable[Result]]) -> AsyncGenerator[AnswerStream]:
    """Send a request by `ask`, and provide the events of its answer; leaving the context cancels the request."""
    stream, tasks = AnswerStream(), asyncio.TaskGroup()
    await tasks.__aenter__()
    asking = tasks.create_task(stream.run(ask), name="answer in parts")
    try:
        yield stream
    finally:
        asking.cancel()
        await tasks.__aexit__(None, None, None)  # its own errors are raised by the stream

"""One running answer of a generative instance, from its beginning in the session to its end."""

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

from runtimes.protocol import FinishedAnswer, RunningAnswer
from schemas.errors import QueryError
from schemas.generation import AnswerPart
from workers.serving.answer_parts import AnswerParts
from workers.serving.generative_codec import QueryText
from workers.serving.generative_work import RunningWork

AnswerEnd: TypeAlias = FinishedAnswer | QueryError | None
"""End of an answer; None: it was cancelled."""


@dataclass(eq=False, slots=True)
class AnswerRun:
    """Running answer with its parts; used on the event loop."""

    work: RunningWork[QueryText]
    parts: AnswerParts | None = None
    running: RunningAnswer | None = None
    cancelled_by: QueryError | None = None
    """Reason of a cancellation, which the client gets."""
    is_dropped: bool = False
    """True if another worker owns its query."""
    _has_ended: bool = False
    _end: AnswerEnd = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there are parts for the topic, or the answer has ended."""

    def cancel(self, reason: QueryError | None) -> None:
        """Cancel the answer; no-op if it is cancelled."""
        if self.running is not None and self.cancelled_by is None and not self.is_dropped:
            self.cancelled_by, self.is_dropped = reason, reason is None
            self.running.cancel()

    def add(self, part: AnswerPart) -> None:
        """Send a part if the client wants parts; those for the topic are left to `send_parts`."""
        if self.parts is not None and not self.is_dropped:
            self.parts.add(part)
            if self.parts.is_to_topic:
                self._changed.set()

    def finish(self, end: AnswerEnd) -> None:
        """Note the end of the answer."""
        if self.parts is not None and not self.is_dropped and isinstance(end, FinishedAnswer):
            self.parts.end()
        self._has_ended, self._end = True, end
        self._changed.set()

    async def send_parts(self) -> AnswerEnd:
        """Send the parts that go to the topic until the answer has ended; return its end."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            has_ended, is_wanted = self._has_ended, not (self.is_dropped or self.work.answer.query.answered)
            if self.parts is not None and self.parts.is_to_topic and is_wanted:
                await self.parts.post(last=has_ended)
            if has_ended:
                return self._end

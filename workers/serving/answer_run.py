"""One running answer of a generative instance, from its beginning in the session to its end."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from runtimes.protocol import FinishedAnswer, RunningAnswer
from schemas.errors import QueryError
from workers.serving.answer_parts import AnswerParts
from workers.serving.generative_codec import QueryText
from workers.serving.generative_work import RunningWork

AnswerEnd: TypeAlias = FinishedAnswer | QueryError | None
"""End of an answer; None: it was cancelled."""


@dataclass(eq=False, slots=True)
class AnswerRun:
    """Running answer with its parts."""

    work: RunningWork[QueryText]
    parts: AnswerParts | None
    running: RunningAnswer | None = None
    cancelled_by: QueryError | None = None
    """Reason of a cancellation, which the client gets."""
    is_dropped: bool = False
    """True if another worker owns its query."""
    posts: bool = False
    """True if an event to post parts waits."""

    def cancel(self, reason: QueryError | None) -> None:
        """Cancel the answer; no-op if it is cancelled."""
        if self.running is not None and self.cancelled_by is None and not self.is_dropped:
            self.cancelled_by, self.is_dropped = reason, reason is None
            self.running.cancel()


class AnswerEvent(NamedTuple):
    """Event of a running answer that the answering task handles."""

    run: AnswerRun
    ended: bool
    end: AnswerEnd = None

"""Cascade of two language models: a small one drafts the answer, a large one answers again if the draft is unsure.

Rules:
* The confidence of a draft is the mean log-probability of its tokens, known with the last one. So the draft is held
  back as a whole. Each of its tokens is reported as a piece without text, like a piece of a prompt: a caller sees that
  the answer is being made, and can cancel it.
* A confident draft is the answer, in one part. Any other is discarded: one without text, one that the context of the
  small model has cut, and a failed one. The large model then answers, and its parts are passed on as they are made.
* Text, tokens, reason of the end and log-probabilities are those of the model that answered.
* An answer is in one stage at a time, so each stage needs as many places as the cascade.

Each answer changes stages in the thread of the first stage that ends its draft.
"""

import math
from collections.abc import Sequence
from functools import partial
from threading import Lock

from msgspec.structs import replace

from runtimes.answer_progress import AnswerEnd, OnEnd, OnPart
from runtimes.answer_session import AnswerSession
from runtimes.composite import CascadeDocument, CascadeSession, ConfidenceMeasure
from runtimes.protocol import FinishedAnswer, GenerativeSession, RunningAnswer, Session
from schemas.errors import OperatorError, QueryError
from schemas.generation import AnswerPart, GenerationOptions


def join_cascade(document: CascadeDocument, stages: Sequence[Session]) -> Session:
    """Return the session of a cascade: of tensors, or of two language models.

    Raises:
        OperatorError: the document does not fit its stages.
    """
    generative = [stage for stage in stages if isinstance(stage, GenerativeSession)]
    if not generative and document.measure is not ConfidenceMeasure.LOGPROB:
        return CascadeSession(document, stages)
    if len(generative) != 2 or len(stages) != 2 or document.measure is not ConfidenceMeasure.LOGPROB:
        raise OperatorError("a cascade of language models has two stages, and escalates by their log-probabilities")
    return GenerativeCascadeSession(generative[0], generative[1], document.thresholds[0])


def is_confident(answer: FinishedAnswer, options: GenerationOptions, threshold: float) -> bool:
    """Return true if a draft, made with `options`, is the answer.

    `threshold` is the least probability that the mean log-probability of its tokens must stand for.
    """
    if not answer.text or answer.mean_logprob is None or not math.exp(answer.mean_logprob) >= threshold:
        return False
    return answer.finish_reason != "length" or answer.completion_tokens == options.max_tokens


class GenerativeCascadeSession(AnswerSession):
    """Two language models in memory."""

    def __init__(self, first: GenerativeSession, then: GenerativeSession, threshold: float) -> None:
        super().__init__(then.context_tokens)
        self.stages = first, then
        self._threshold = threshold
        self._lock = Lock()
        self._drafts = self._escalated = 0

    @property
    def running(self) -> int:
        """Number of answers that are being made."""
        return sum(stage.running for stage in self.stages)

    @property
    def escalated(self) -> float:
        """Share of the answers so far for which the second stage has begun."""
        return self._escalated / max(self._drafts, 1)

    def start(self, text: str, options: GenerationOptions, on_part: OnPart, on_end: OnEnd) -> RunningAnswer:
        """Start an answer, and return at once; see `GenerativeSession`."""
        answer = _CascadeAnswer()
        drafted = replace(options, logprobs=0) if options.logprobs is None else options

        def end_draft(end: AnswerEnd) -> None:
            if isinstance(end, FinishedAnswer) and is_confident(end, options, self._threshold):
                final = end if options.logprobs is not None else replace(end, mean_logprob=None, logprobs=[])
                self._count(escalated=False)
                if answer.cancelled:
                    on_end(None)
                    return
                on_part(AnswerPart(text=final.text, tokens=final.completion_tokens, logprobs=final.logprobs))
                on_end(final)
                return
            if end is None or not answer.enter(partial(escalate, end)):
                on_end(None)

        def escalate(draft: FinishedAnswer | QueryError) -> RunningAnswer:
            self._count(escalated=True)  # before the answer can end
            tokens = draft.completion_tokens if isinstance(draft, FinishedAnswer) else 0
            return self.stages[1].start(text, options, on_part, partial(_replace_draft, on_end, tokens))

        answer.enter(partial(self.stages[0].start, text, drafted, partial(_hold_back, on_part), end_draft))
        return answer

    def close(self) -> None:
        """Cancel the running answers, and free the memory: the first stage ends before the second, which it feeds."""
        for stage in self.stages:
            stage.close()

    def _count(self, *, escalated: bool) -> None:
        with self._lock:
            self._drafts += 1
            self._escalated += escalated


def _hold_back(on_part: OnPart, _part: AnswerPart) -> None:
    """Report a token of a draft, or a piece of its prompt, without its text."""
    on_part(AnswerPart(text="", tokens=0))


def _replace_draft(on_end: OnEnd, draft_tokens: int, end: AnswerEnd) -> None:
    """Report the end of an answer of the second stage, with the tokens of the draft that it replaces."""
    on_end(replace(end, draft_tokens=draft_tokens) if isinstance(end, FinishedAnswer) else end)


class _CascadeAnswer:
    """Answer of a cascade, in one of its stages; any thread may cancel it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: RunningAnswer | None = None
        self.cancelled = False

    def enter(self, start: "partial[RunningAnswer]") -> bool:
        """Start the answer in its next stage; returns false if it was cancelled."""
        with self._lock:
            if not self.cancelled:
                self._running = start()
            return not self.cancelled

    def cancel(self) -> None:
        """End it at its next token, or piece of a prompt."""
        with self._lock:
            self.cancelled = True
            if self._running is not None:
                self._running.cancel()

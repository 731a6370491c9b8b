"""Answers of a generative session while they are made, for every engine.

An engine adds the tokens of an answer as it makes them, and states the reason of its end, or the error.
"""

from collections.abc import Callable
from statistics import fmean
from threading import Event

from runtimes.protocol import FinishedAnswer
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.generation import AnswerPart, FinishReason, TokenLogprob

OnPart = Callable[[AnswerPart], None]
AnswerEnd = FinishedAnswer | QueryError | None
"""End of an answer; None: it was cancelled."""
OnEnd = Callable[[AnswerEnd], None]


class AnswerProgress:
    """Answer that is being made; `cancel` may be called in any thread, the rest in that of the engine."""

    def __init__(self, on_part: OnPart) -> None:
        self._on_part = on_part
        self._cancelled = Event()
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self.tokens = 0
        """Tokens that were made."""
        self.prompt_tokens = self.cached_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.error: QueryError | None = None

    @property
    def cancelled(self) -> bool:
        """True if it was cancelled."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End it at its next token, or piece of its prompt."""
        self._cancelled.set()

    def grow(self, text: str, tokens: int, logprobs: list[TokenLogprob]) -> None:
        """Add new tokens. Their text may come later; no tokens show that a piece of the prompt was computed."""
        self.tokens += tokens
        self._logprobs += logprobs
        if not self.cancelled:
            self._texts.append(text)
            self._on_part(AnswerPart(text=text, tokens=tokens, logprobs=logprobs))

    def end(self) -> AnswerEnd:
        """Return the end of the answer."""
        if self.cancelled:
            return None
        if self.error is not None or self.finish_reason is None:
            return self.error or ModelFailed("the engine ended the answer without a reason")
        return FinishedAnswer(
            text="".join(self._texts),
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.tokens,
            cached_tokens=self.cached_tokens,
            mean_logprob=fmean(one.logprob for one in self._logprobs) if self._logprobs else None,
            logprobs=self._logprobs,
        )


def prompt_too_long(tokens: int, most: int) -> InvalidRequest:
    """Return the error for a prompt that leaves no room for an answer."""
    return InvalidRequest(
        f"the prompt has {tokens} tokens, but this model takes at most {most} of prompt and answer: shorten it"
    )

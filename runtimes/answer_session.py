"""The part of a generative session that does not depend on its engine: whole answers to a batch of texts."""

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtimes.answer_outputs import answer_outputs
from runtimes.answer_progress import AnswerEnd, OnEnd, OnPart
from runtimes.chat import is_chat
from runtimes.protocol import FinishedAnswer, RunningAnswer, Tensors
from schemas.errors import ModelFailed
from schemas.generation import TEXT_INPUT, GenerationOptions

_INFER_TOKENS: Final = 48
"""Most tokens of an answer that `infer` makes."""


class AnswerSession(ABC):
    """Session of an engine that makes answers; see `GenerativeSession`."""

    def __init__(self, context_tokens: int) -> None:
        self._context_tokens = context_tokens

    @property
    def context_tokens(self) -> int:
        """Maximum tokens of a prompt and its answer."""
        return self._context_tokens

    @abstractmethod
    def start(self, text: str, options: GenerationOptions, on_part: OnPart, on_end: OnEnd) -> RunningAnswer:
        """Start an answer, and return at once; see `GenerativeSession`."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Make the whole answers to a batch of texts, each a prompt or a chat, by the likeliest tokens; blocks.

        Raises:
            QueryError: an answer failed.
        """
        ends = [self._likeliest(text) for text in inputs[TEXT_INPUT].reshape(-1).tolist()]
        return answer_outputs([end.result() for end in ends])

    def _likeliest(self, text: bytes) -> "Future[FinishedAnswer]":
        found: Future[FinishedAnswer] = Future()

        def end(answer: AnswerEnd) -> None:
            if isinstance(answer, FinishedAnswer):
                found.set_result(answer)
            else:
                found.set_exception(answer or ModelFailed("the answer was cancelled"))

        options = GenerationOptions(chat=is_chat(text), max_tokens=_INFER_TOKENS, temperature=0.0, logprobs=0)
        self.start(text.decode(errors="replace"), options, lambda _part: None, end)
        return found

"""Interface between the system and the libraries that execute models.

A runtime reports if it can run here, and loads artifacts. A session is one loaded variant. Both block, so callers run
them in threads. If a package or device is missing, a runtime is unavailable with a reason; importing it never fails.

A generative session also makes single answers token by token. It has threads of its own, which make the next token of
all running answers in one step.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.defaults import CONTEXT_TOKENS
from schemas.errors import OperatorError, QueryError
from schemas.generation import AnswerPart, FinishReason, GenerationOptions, TokenLogprob

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by tensor name; the first dimension of each is the batch."""


class Availability(msgspec.Struct, frozen=True):
    """Availability of a runtime on this machine, with the reason if it cannot run."""

    available: bool
    reason: str = ""

    def check(self) -> None:
        """Raise `OperatorError` with the reason if it is not available."""
        if not self.available:
            raise OperatorError(self.reason)


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options for loading a variant."""

    precision: str
    threads: int = 1
    """Threads that compute one batch on a CPU."""
    lanes: int = 1
    """Batches that compute at once, for runtimes that need to know it in advance."""
    max_batch: int = 32
    """Largest batch; of a generative variant the most answers at once."""
    context_tokens: int = CONTEXT_TOKENS
    """Maximum tokens of a prompt and its answer, for generative variants. The model's own limit may be lower."""


class Session(Protocol):
    """One variant in memory."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch. Errors of the runtime pass through; the caller attributes them to the model."""
        ...

    def close(self) -> None:
        """Free the memory; the session must not be used again."""
        ...


class FinishedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whole answer of a generative model."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Tokens of the prompt that an earlier answer had computed."""
    mean_logprob: float | None = None
    """Mean log-probability of its tokens; None: not asked for."""
    logprobs: list[TokenLogprob] = []
    """Log-probabilities of its tokens, if the option `logprobs` is set."""
    draft_tokens: int | None = None
    """Tokens of the draft of a cascade that was discarded for this answer; None: it is a draft itself, or no cascade
    made it."""


class RunningAnswer(Protocol):
    """Answer that is being made."""

    def cancel(self) -> None:
        """End it at its next token; callable from any thread. No more parts follow, and its end is None."""
        ...


@runtime_checkable
class GenerativeSession(Session, Protocol):
    """One generative variant in memory. `infer` makes the whole answers to a batch of texts, without randomness."""

    @property
    def context_tokens(self) -> int:
        """Maximum tokens of a prompt and its answer."""
        ...

    @property
    def running(self) -> int:
        """Number of answers that are being made."""
        ...

    def start(
        self,
        text: str,
        options: GenerationOptions,
        on_part: Callable[[AnswerPart], None],
        on_end: Callable[[FinishedAnswer | QueryError | None], None],
    ) -> RunningAnswer:
        """Start an answer, and return at once.

        The session makes at most `LoadOptions.max_batch` answers at once; more wait for one to end.

        Args:
            text: prompt or chat, see `schemas.generation.INPUTS`.
            options: options of the query; its context and grammar are checked by the session.
            on_part: called in a thread of the session with each piece of the answer, in order. The text of new tokens
                may be empty, and come with a later piece, if it may begin a stop text. A piece without tokens shows
                that a part of the prompt was computed.
            on_end: called in a thread of the session, once, after the last part; None: the answer was cancelled.
        """
        ...


class Runtime(Protocol):
    """Method of executing artifacts on one or more types of hardware."""

    @property
    def name(self) -> str:
        """Name of the runtime, as in `Variant.runtime`."""
        ...

    @property
    def concurrent(self) -> bool:
        """True if several threads may compute with one session at once, faster than one after the other."""
        ...

    @property
    def hardware(self) -> tuple[str, ...]:
        """Hardware types that it supports if its package and the device are present."""
        ...

    def availability(self, hardware: str) -> Availability:
        """Return whether variants for `hardware` can run in this process, and the reason if not."""
        ...

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an artifact; blocks."""
        ...

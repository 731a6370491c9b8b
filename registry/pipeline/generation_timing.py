"""Times a generative variant: prompts by their length, and steps by the number of answers at once.

A prompt is timed to its first token. Each begins with another number, so that no prompt is found in the engine's cache.
A step is timed between the first tokens of all answers and a token some steps later, because prompts take part in the
steps before. The answers go on past their natural ends.

The latency of a batch, by which variants without tokens are chosen, priced and scaled, stands for answers at once: a
batch of b takes as long as b typical prompts, one after the other, and the steps of a typical answer among b.

The stages of a cascade are timed one after the other. While one computes, the other may compute answers, too, on the
same cores: then each gets half of them. So beside others a step takes at least twice as long as one of its stage
without one of them.

As in `timing`, time that other processes took is subtracted. A few runs of each case must do: a long prompt takes
seconds.
"""

import time
from collections.abc import Callable
from statistics import median
from threading import Condition
from typing import Any, Final, cast

from msgspec.structs import replace
from numpy.typing import NDArray

from registry.pipeline.timing import Run, RunObserver, Timing, batch_sizes, observed_quietly, uneven_timing
from runtimes.chat import is_chat
from runtimes.generative_cascade import GenerativeCascadeSession
from runtimes.protocol import FinishedAnswer, GenerativeSession, LoadOptions, RunningAnswer, Session
from schemas.errors import ModelFailed, QueryError
from schemas.generation import AnswerPart, GenerationOptions, GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from schemas.latency import BatchLatency

_LENGTHS: Final = (16, 64, 256, 1024)
"""Tokens of the prompts to time, if the context has room for twice as many."""
_STEPS: Final = 16
_RUNS: Final = 3
_BUDGET_S: Final = 6.0
"""Seconds after which a case is not run again."""
_TYPICAL: Final = 8
"""Prompts of the samples whose answers are measured."""
_LONGEST_ANSWER: Final = 256
_PATIENCE_S: Final = 600.0


def make_token(session: Session) -> None:
    """Make one token, or one of each stage, so that the engine has allocated all of its memory; blocks."""
    if isinstance(session, GenerativeCascadeSession):
        for stage in session.stages:
            make_token(stage)
        return
    answers = _Answers(cast(GenerativeSession, session))
    answers.start("a", GenerationOptions(max_tokens=1))
    answers.wait_for_ends()


def time_generation(
    session: Session, texts: NDArray[Any], options: LoadOptions, cores: int | None, *, logprobs: int | None = None
) -> GenerationProfile:
    """Return the measurements of a session that makes up to `options.max_batch` answers at once; blocks.

    Args:
        session: the generative session.
        texts: prompts or chats of the labelled data.
        options: options with which it was loaded.
        cores: CPU cores to compute on; None if another device computes.
        logprobs: option of the timed answers: drafts of a cascade need log-probabilities.
    """
    if isinstance(session, GenerativeCascadeSession):
        first, then = session.stages
        draft = time_generation(first, texts, options, cores, logprobs=0)
        return cascade_profile(draft, time_generation(then, texts, options, cores))
    generative, rows = cast(GenerativeSession, session), texts.reshape(-1).tolist()[:_TYPICAL]
    typical = [_typical_answer(generative, text) for text in rows]
    prompt_bytes, prompt_tokens = sum(map(len, rows)), [max(answer.prompt_tokens, 1) for answer in typical]
    bytes_per_token = prompt_bytes / sum(prompt_tokens)
    with observed_quietly(cores) as (observer, _find_quiet):
        timer = _Timer(generative, observer, b" ".join(rows).decode(errors="replace"), bytes_per_token, logprobs)
        lengths = [length for length in _LENGTHS if length <= generative.context_tokens // 2]
        prefill = [timer.prefill(length) for length in lengths]
        step = [timer.step(count) for count in batch_sizes(options.max_batch)]
    return GenerationProfile(
        context_tokens=generative.context_tokens,
        sequences=options.max_batch,
        prefill=tuple(prefill),
        step=tuple(step),
        prompt_tokens=round(median(prompt_tokens)),
        answer_tokens=max(round(median(answer.completion_tokens for answer in typical)), 1),
        bytes_per_token=bytes_per_token,
    )


def batch_latencies(profile: GenerationProfile) -> tuple[BatchLatency, ...]:
    """Return the latencies of batches that stand for the numbers of answers at once that were measured."""
    model, tokens = GenerationModel(profile), profile.answer_tokens
    return tuple(
        BatchLatency(
            batch=one.sequences,
            p50_s=model.promised_s(one.sequences, tokens),
            p99_s=model.promised_s(one.sequences, tokens, p99=True),
            mean_s=None if model.draft is None else model.together_s(one.sequences, tokens),
        )
        for one in profile.step
    )


def cascade_profile(draft: GenerationProfile, then: GenerationProfile) -> GenerationProfile:
    """Return the profile of a cascade of two measured stages, all of whose answers escalate."""
    longest = max(draft.answer_tokens, then.answer_tokens)
    return replace(
        then,
        step=_beside_other_stage(then),
        answer_tokens=longest,
        draft=replace(draft, step=_beside_other_stage(draft)),
    )


def _beside_other_stage(profile: GenerationProfile) -> tuple[StepTime, ...]:
    """Return the steps of a stage, when one or more of the answers at once may be in the other stage."""
    model = GenerationModel(profile)

    def at_most(one: StepTime) -> StepTime:
        if one.sequences == 1:
            return one
        shared_s, shared_p99_s = (2 * model.step_s(one.sequences - 1, p99=p99) for p99 in (False, True))
        return StepTime(one.sequences, max(one.p50_s, shared_s), max(one.p99_s, shared_p99_s))

    return tuple(map(at_most, profile.step))


def _typical_answer(session: GenerativeSession, text: bytes) -> FinishedAnswer:
    answers = _Answers(session)
    most = min(_LONGEST_ANSWER, session.context_tokens // 2)
    answers.start(text.decode(errors="replace"), GenerationOptions(chat=is_chat(text), max_tokens=most, seed=0))
    (answer,) = answers.wait_for_ends()
    return answer


class _Timer:
    """Timer of prompts and steps."""

    def __init__(
        self, session: GenerativeSession, observer: RunObserver, text: str, bytes_per_token: float, logprobs: int | None
    ) -> None:
        self._session = session
        self._observer = observer
        self._text = text
        self._bytes_per_token = bytes_per_token
        self._logprobs = logprobs
        self._number = 0

    def prefill(self, tokens: int) -> PrefillTime:
        """Time prompts of about this length."""
        found: list[int] = []

        def run() -> Run:
            answers, text = _Answers(self._session), self._prompt(tokens)

            def compute() -> None:
                answers.start(text, GenerationOptions(max_tokens=1, logprobs=self._logprobs))
                answers.wait_for_ends()

            observed = self._observer.observe(compute)
            found.extend(answer.prompt_tokens for answer in answers.wait_for_ends())
            return observed

        timing = _repeated(run)
        return PrefillTime(max(round(median(found)), 1), timing.p50_s, timing.p99_s)

    def step(self, count: int) -> StepTime:
        """Time steps of `count` answers at once."""

        def run() -> Run:
            answers = _Answers(self._session)
            for _ in range(count):
                answers.start(self._prompt(1), GenerationOptions(ignore_eos=True, logprobs=self._logprobs))
            answers.wait_for_tokens(1)
            reached = answers.fewest_tokens + _STEPS
            observed = self._observer.observe(lambda: answers.wait_for_tokens(reached))
            answers.cancel()
            return Run(*(seconds / _STEPS for seconds in observed))

        timing = _repeated(run)
        return StepTime(count, timing.p50_s, timing.p99_s)

    def _prompt(self, tokens: int) -> str:
        self._number += 1
        length = round(tokens * self._bytes_per_token)
        return f"{self._number} {self._text * (length // max(len(self._text), 1) + 1)}"[: max(length, 4)]


def _repeated(run: Callable[[], Run]) -> Timing:
    began_s, runs = time.monotonic(), [run()]
    while len(runs) < _RUNS and time.monotonic() - began_s < _BUDGET_S:
        runs.append(run())
    return uneven_timing(runs)


class _Answers:
    """Answers that run at once, and their progress."""

    def __init__(self, session: GenerativeSession) -> None:
        self._session = session
        self._changed = Condition()
        self._running: list[RunningAnswer] = []
        self._tokens: list[int] = []
        self._ends: list[FinishedAnswer | QueryError | None] = []

    def start(self, text: str, options: GenerationOptions) -> None:
        """Start one more answer."""
        number = len(self._tokens)
        self._tokens.append(0)

        def add(part: AnswerPart) -> None:
            with self._changed:
                self._tokens[number] += part.tokens
                self._changed.notify_all()

        def end(answer: FinishedAnswer | QueryError | None) -> None:
            with self._changed:
                self._ends.append(answer)
                self._changed.notify_all()

        self._running.append(self._session.start(text, options, add, end))

    @property
    def fewest_tokens(self) -> int:
        """Tokens of the shortest answer."""
        with self._changed:
            return min(self._tokens)

    def wait_for_tokens(self, count: int) -> None:
        """Wait until each answer has this many tokens."""
        self._wait(lambda: min(self._tokens) >= count or len(self._ends) > 0)

    def wait_for_ends(self) -> list[FinishedAnswer]:
        """Wait until all answers have ended. Raises the error of one that failed."""
        self._wait(lambda: len(self._ends) == len(self._tokens))
        for end in self._ends:
            if isinstance(end, QueryError):
                raise end
        return [end for end in self._ends if isinstance(end, FinishedAnswer)]

    def cancel(self) -> None:
        """Cancel all answers, and wait for their ends."""
        for answer in self._running:
            answer.cancel()
        self._wait(lambda: len(self._ends) == len(self._tokens))

    def _wait(self, is_over: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(is_over, _PATIENCE_S):
                raise ModelFailed(f"it made no tokens for {_PATIENCE_S:.0f} s")

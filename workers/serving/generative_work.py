"""Work of one generative instance: the answers that wait and run, their measures, and its status. Pure.

    arrived (a query was read) -> queue.add -> begin -> part ... -> end -> backlog.remove (the query is answered)

Rules.
* The status counts the answers that run and wait as inputs. No answer counts as partly done: a place is free only when
  an answer has ended.
* The slowdown is the ratio of the time of an answer to that by the profile: its prompt, and each of its steps at the
  number of answers that ran then.
* An answer is undisturbed if no prompt of another was computed while it ran: then its time shows the profile's drift.
  An answer of a cascade is undisturbed if it was alone, since prompts of others are computed when they escalate.
* Lengths are those of answers and of discarded drafts: both are made, and both hold the first token of a cascade back.
* Times are seconds of one monotonic clock.
"""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from runtimes.protocol import FinishedAnswer
from schemas.answer_lengths import LengthCount, LengthMeter
from schemas.generation_model import GenerationModel
from schemas.latency import LatencyModel
from workers.serving.measured_work import K, MeasuredWork
from workers.slots.answer_queue import AnswerPace, AnswerQueue, QueuedAnswer, may_begin
from workers.slots.batch_queue import WaitingBatches


class TextAnswer(QueuedAnswer, Protocol):
    """Answer to one text of a query."""

    @property
    def max_tokens(self) -> int | None:
        """Maximum tokens of the answer; None without a maximum."""
        ...


A = TypeVar("A", bound=TextAnswer)


@dataclass(eq=False, slots=True)
class RunningWork(Generic[A]):
    """Answer that is being made."""

    answer: A
    began_s: float
    tokens: int = 0
    steps_s: float = 0.0
    """Seconds of its steps by the profile, at the number of answers that ran then."""
    undisturbed: bool = True
    """True if no prompt of another answer was computed while it ran."""
    first_s: float | None = None
    """Time of its first token."""
    seen_s: float = field(default=0.0)
    """Time of its last piece of the prompt or token, or of its beginning."""

    def pace(self, now_s: float, expected_tokens: int) -> AnswerPace:
        """Return its pace at present, if it will have `expected_tokens`."""
        elapsed_s = 0.0 if self.first_s is None else now_s - self.first_s
        return AnswerPace(self.answer.pace_s, self.tokens, elapsed_s, max(expected_tokens - self.tokens, 1))


class AnswerTime(NamedTuple):
    """Seconds of an answer."""

    seconds: float
    predicted_s: float
    """Those of its prompt and its steps by the profile."""
    undisturbed: bool


class GenerativeWork(MeasuredWork[K], Generic[K, A]):
    """Work and health of one generative instance that serves."""

    def __init__(self, model: GenerationModel, latency: LatencyModel, now_s: float) -> None:
        super().__init__(now_s, parallel=1, even=False)
        self.queue: AnswerQueue[A] = AnswerQueue()
        self.running: list[RunningWork[A]] = []
        self._lengths = LengthMeter()
        self._model = model
        self._latency = latency

    @property
    def latency(self) -> LatencyModel:
        """Latency model of its predictions, whose batches are answers at once."""
        return self._latency

    @property
    def online_waiting(self) -> int:
        """Online answers that wait."""
        return self.queue.online

    def use_model(self, model: GenerationModel, latency: LatencyModel) -> None:
        """Decide and predict by these times from now on."""
        self._model, self._latency = model, latency

    def arrived(self, key: K, inputs: int, *, offline: bool) -> None:
        """Count a query that was read."""
        self.backlog.add(key, inputs, large=False, offline=offline)
        self.meter.arrived(0 if offline else inputs)

    def begin(self, now_s: float, *, alone: bool = False) -> RunningWork[A] | None:
        """Take the next answer out of the queue if it may begin now; with `alone`, only if none runs."""
        first = self.queue.first()
        if first is None or (alone and self.running):
            return None
        offline = sum(one.answer.offline for one in self.running)
        lengths = self._lengths.lengths(self._model.lengths.median)
        paces = [one.pace(now_s, lengths.expected(one.answer.max_tokens)) for one in self.running]
        if not may_begin(first, paces, offline, self._model, max(self.meter.slowdown, 1.0)):
            return None
        self.queue.remove([first])
        begun = RunningWork(first, now_s, seen_s=now_s)
        for one in self.running:
            one.undisturbed = False
            begun.undisturbed &= one.first_s is not None and self._model.draft is None
        self.running.append(begun)
        return begun

    def part(self, running: RunningWork[A], tokens: int, now_s: float) -> None:
        """Count tokens that an answer grew by; 0: a piece of its prompt was computed."""
        running.tokens += tokens
        running.seen_s = now_s
        if tokens and running.first_s is None:
            running.first_s = now_s
            tokens -= 1  # the prompt makes the first one
        running.steps_s += tokens * self._model.step_s(len(self.running))

    def end(self, running: RunningWork[A], now_s: float, answer: FinishedAnswer | None = None) -> AnswerTime | None:
        """Note that an answer has ended, with `answer`, or for any other reason. Returns its time if it has tokens."""
        beside = len(self.running)
        self.running.remove(running)
        if not running.tokens:
            return None
        self._lengths.add(running.tokens, cut=answer is None or answer.finish_reason == "length")
        if answer is not None and answer.draft_tokens:
            self._lengths.add(answer.draft_tokens, cut=answer.draft_tokens == running.answer.max_tokens)
        seconds, predicted_s = now_s - running.began_s, self._predicted_s(running, answer, beside)
        self.meter.computed(beside, seconds, predicted_s, now_s, left=False)
        return AnswerTime(seconds, predicted_s, running.undisturbed and answer is not None)

    def _predicted_s(self, running: RunningWork[A], answer: FinishedAnswer | None, beside: int) -> float:
        """Return the seconds of an ended answer by the profile: of a cascade the draft, and what was made after it."""
        model, prompt_tokens = self._model, running.answer.prompt_tokens
        if answer is not None:
            prompt_tokens = answer.prompt_tokens - answer.cached_tokens
        own_s = model.prefill_s(prompt_tokens) + running.steps_s
        if model.draft is None:
            return own_s
        if answer is not None and answer.draft_tokens is None:
            return model.draft_s(prompt_tokens, running.tokens, beside)
        known = None if answer is None else answer.draft_tokens
        return model.draft_s(prompt_tokens, model.lengths.median if known is None else known, beside) + own_s

    @property
    def answer_lengths(self) -> tuple[LengthCount, ...]:
        """Recent answers by length."""
        return self._lengths.counts

    def waiting_batches(self) -> list[WaitingBatches]:
        """Return no batches: its answers take no slots."""
        return []

    def offline_room(self) -> int:
        """Return the number of offline queries to read now: none while an online one waits."""
        if self.queue.online:
            return 0
        offline = len(self.queue) + sum(one.answer.offline for one in self.running)
        return max(max(self._model.sequences // 2, 1) - offline, 0)

"""Work of one generative instance: the answers that wait and run, their measures, and its status. Pure.

    arrived (a query was read) -> queue.add -> begin -> part ... -> end -> backlog.remove (the query is answered)

Rules.
* The status counts the answers that run and wait as inputs. No answer counts as partly done: a place is free only when
  an answer has ended.
* The slowdown is the ratio of the time of an answer to that by the profile, at the number of answers that ran with it.
* Times are seconds of one monotonic clock.
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from schemas.generation_model import GenerationModel
from schemas.latency import LatencyModel
from workers.serving.measured_work import K, MeasuredWork
from workers.slots.answer_queue import AnswerPace, AnswerQueue, QueuedAnswer, may_begin
from workers.slots.batch_queue import WaitingBatches


class TextAnswer(QueuedAnswer, Protocol):
    """Answer to one text of a query."""

    @property
    def expected_tokens(self) -> int:
        """Tokens to expect of the answer."""
        ...


A = TypeVar("A", bound=TextAnswer)


@dataclass(eq=False, slots=True)
class RunningWork(Generic[A]):
    """Answer that is being made."""

    answer: A
    began_s: float
    beside: int
    """Most answers that ran at once while it did, itself included."""
    tokens: int = 0
    first_s: float | None = None
    """Time of its first token."""
    seen_s: float = field(default=0.0)
    """Time of its last piece of the prompt or token, or of its beginning."""

    def pace(self, now_s: float) -> AnswerPace:
        """Return its pace at present."""
        elapsed_s = 0.0 if self.first_s is None else now_s - self.first_s
        left = max(self.answer.expected_tokens - self.tokens, 1)
        return AnswerPace(self.answer.pace_s, self.tokens, elapsed_s, left)


class GenerativeWork(MeasuredWork[K], Generic[K, A]):
    """Work and health of one generative instance that serves."""

    def __init__(self, model: GenerationModel, latency: LatencyModel, now_s: float) -> None:
        super().__init__(now_s, parallel=1, even=False)
        self.queue: AnswerQueue[A] = AnswerQueue()
        self.running: list[RunningWork[A]] = []
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
        paces = [one.pace(now_s) for one in self.running]
        if not may_begin(first, paces, offline, self._model, max(self.meter.slowdown, 1.0)):
            return None
        self.queue.remove([first])
        begun = RunningWork(first, now_s, 1, seen_s=now_s)
        self.running.append(begun)
        for one in self.running:
            one.beside = max(one.beside, len(self.running))
        return begun

    def part(self, running: RunningWork[A], tokens: int, now_s: float) -> None:
        """Count tokens that an answer grew by; 0: a piece of its prompt was computed."""
        running.tokens += tokens
        running.seen_s = now_s
        if tokens and running.first_s is None:
            running.first_s = now_s

    def end(self, running: RunningWork[A], now_s: float) -> None:
        """Note that an answer has ended, for whatever reason."""
        beside = len(self.running)
        self.running.remove(running)
        if running.tokens:
            predicted_s = self._model.answer_s(running.answer.prompt_tokens, running.tokens, running.beside)
            self.meter.computed(beside, now_s - running.began_s, predicted_s, now_s, left=False)

    def waiting_batches(self) -> list[WaitingBatches]:
        """Return no batches: its answers take no slots."""
        return []

    def offline_room(self) -> int:
        """Return the number of offline queries to read now: none while an online one waits."""
        if self.queue.online:
            return 0
        offline = len(self.queue) + sum(one.answer.offline for one in self.running)
        return max(max(self._model.sequences // 2, 1) - offline, 0)

"""Queue of answers of one generative instance, and the decision which of them may begin. Pure.

Rules.
* Online answers begin before offline ones, the earliest deadline first, then in the order of arrival. None overtakes
  the first: an answer that may not begin yet would otherwise wait for ever.
* An answer begins only while fewer than `sequences` are made, and only if the running ones keep their pace, which is
  the mean time of a token. The beginning answer adds the time of its prompt once, and makes each further step longer.
* An answer with a pace of its own waits until it can keep it. Alone it always begins.
* Offline answers take half of the sequences at most: nothing is preempted, and an answer takes seconds.
* Expired answers do not begin, unless their clients accept late ones.
"""

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from schemas.generation_model import GenerationModel

NO_PACE: Final = math.inf


class QueuedAnswer(Protocol):
    """Answer that waits."""

    @property
    def deadline_s(self) -> float:
        """Deadline in seconds of the monotonic clock; infinite without one."""
        ...

    @property
    def offline(self) -> bool:
        """True if its query is an offline one."""
        ...

    @property
    def allow_late(self) -> bool:
        """True if its client accepts a late answer."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Estimated tokens of its prompt."""
        ...

    @property
    def pace_s(self) -> float:
        """Maximum mean seconds of a token; infinite without a need."""
        ...


W = TypeVar("W", bound=QueuedAnswer)


class AnswerPace(NamedTuple):
    """Pace of an answer that is made."""

    pace_s: float
    """Maximum mean seconds of a token; infinite without a need."""
    made: int
    """Tokens made so far."""
    elapsed_s: float
    """Seconds since its first token."""
    left: int
    """Tokens that are expected to follow, at least 1."""


def keeps_pace(answer: AnswerPace, prompt_s: float, step_s: float) -> bool:
    """Return true if an answer keeps its pace while a prompt of `prompt_s` is computed and steps take `step_s`."""
    if answer.pace_s == NO_PACE:
        return True
    total_s = answer.elapsed_s + prompt_s + answer.left * step_s
    return total_s <= answer.pace_s * (max(answer.made - 1, 0) + answer.left)


def may_begin(
    work: QueuedAnswer, running: Sequence[AnswerPace], offline: int, model: GenerationModel, slowdown: float
) -> bool:
    """Return true if an answer may begin beside running ones, of which `offline` are offline."""
    number = len(running) + 1
    if number == 1:
        return True
    if number > model.sequences or (work.offline and offline >= max(model.sequences // 2, 1)):
        return False
    step_s, prompt_s = slowdown * model.step_s(number), slowdown * model.prompts_s(work.prompt_tokens)
    return step_s <= work.pace_s and all(keeps_pace(answer, prompt_s, step_s) for answer in running)


class _Entry(NamedTuple, Generic[W]):
    offline: bool
    deadline_s: float
    arrival: int
    work: W


def _order(entry: _Entry[W]) -> tuple[bool, float, int]:
    return entry[:3]


class AnswerQueue(Generic[W]):
    """Answers that wait for their beginning."""

    def __init__(self) -> None:
        self._waiting: list[_Entry[W]] = []
        self._arrivals = count()
        self.online = 0
        """Online answers that wait."""

    def __len__(self) -> int:
        """Return the number of answers that wait."""
        return len(self._waiting)

    def add(self, work: W) -> None:
        """Add an answer."""
        insort(self._waiting, _Entry(work.offline, work.deadline_s, next(self._arrivals), work), key=_order)
        self.online += not work.offline

    def first(self) -> W | None:
        """Return the answer that begins next; None if none waits."""
        return self._waiting[0].work if self._waiting else None

    def remove(self, unwanted: Iterable[W]) -> None:
        """Remove answers; no-op for one that does not wait."""
        gone = set(map(id, unwanted))
        self._waiting = [entry for entry in self._waiting if id(entry.work) not in gone]
        self.online = sum(not entry.offline for entry in self._waiting)

    def expire(self, now_s: float) -> list[W]:
        """Remove and return the answers whose deadline has passed, and whose clients accept no late ones."""
        expired = [one.work for one in self._waiting if one.deadline_s <= now_s and not one.work.allow_late]
        if expired:
            self.remove(expired)
        return expired

    def next_deadline_s(self) -> float:
        """Return the earliest deadline of an answer that can expire; infinite if there is none."""
        return min((one.deadline_s for one in self._waiting if not one.work.allow_late), default=math.inf)

    def waiting(self) -> list[W]:
        """Return all answers that wait, in order."""
        return [entry.work for entry in self._waiting]

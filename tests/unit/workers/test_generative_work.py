"""Tests of the work of a generative instance: what runs, what waits, and what its status says."""

import math
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from runtimes.protocol import FinishedAnswer
from schemas.answer_lengths import LengthCount, bucket_of
from schemas.generation import FinishReason, GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from schemas.latency import BatchLatency, LatencyModel
from schemas.status import InstanceState, InstanceStatus
from workers.serving.generative_work import GenerativeWork
from workers.slots.busy_time import BusyTime

PROFILE = GenerationProfile(
    context_tokens=1000, sequences=2, prefill=(PrefillTime(10, 0.01, 0.01), PrefillTime(100, 0.1, 0.1)),
    step=(StepTime(1, 0.01, 0.01), StepTime(2, 0.02, 0.02)), prompt_tokens=10, answer_tokens=20, bytes_per_token=4.0,
)  # fmt: skip
CASCADE = replace(
    PROFILE, escalated=0.5,
    draft=replace(PROFILE, prefill=(PrefillTime(10, 0.001, 0.001),), step=(StepTime(1, 0.001, 0.001),)),
)  # fmt: skip
LATENCY = LatencyModel((BatchLatency(1, 0.2, 0.2), BatchLatency(2, 0.4, 0.4)), 2)


@dataclass(eq=False)
class Answer:
    deadline_s: float = math.inf
    offline: bool = False
    allow_late: bool = False
    prompt_tokens: int = 10
    pace_s: float = math.inf
    max_tokens: int | None = None


@dataclass
class Counts:
    answered: int = 7
    inputs: int = 6
    late: int = 1
    expired: int = 2


def work_of(*answers: Answer, profile: GenerationProfile = PROFILE) -> GenerativeWork[int, Answer]:
    work: GenerativeWork[int, Answer] = GenerativeWork(GenerationModel(profile), LATENCY, 0.0)
    for key, answer in enumerate(answers):
        work.arrived(key, 1, offline=answer.offline)
        work.queue.add(answer)
    return work


def status_of(work: GenerativeWork[int, Answer]) -> InstanceStatus:
    return work.status("a.llamacpp-q4-0.cpu", Counts(), partitions=(), offline_partitions=(), queued=3)


def test_begin_starts_as_many_answers_as_sequences() -> None:
    work = work_of(Answer(), Answer(), Answer())
    begun = [work.begin(1.0), work.begin(1.0), work.begin(1.0)]
    assert [one is not None for one in begun] == [True, True, False]
    first = begun[0]
    assert first is not None
    work.end(first, 2.0)
    assert work.begin(2.0) is not None


def test_begin_alone_waits_for_running_answers() -> None:
    work = work_of(Answer(), Answer())
    running = work.begin(0.0)
    assert running is not None
    assert work.begin(0.0, alone=True) is None
    work.end(running, 1.0)
    assert work.begin(1.0, alone=True) is not None


def test_status_counts_running_and_waiting_answers() -> None:
    work = work_of(Answer(), Answer(), Answer(), Answer(offline=True))
    work.begin(0.0)
    status = status_of(work)
    assert (status.queued_inputs, status.queued_offline_inputs, status.done_inputs) == (4, 1, 0.0)
    assert (status.max_batch, status.parallel, status.answered, status.late) == (2, 1, 7, 1)
    work.backlog.remove(0)
    assert status_of(work).queued_inputs == 3
    assert work.waiting_batches() == []


def test_slowdown_follows_measured_times() -> None:
    work = work_of(*(Answer() for _ in range(200)))
    for number in range(200):
        begun = work.begin(float(number))
        assert begun is not None
        work.part(begun, 20, number + 0.1)
        work.end(begun, number + 0.6)  # a prompt and 19 steps take 0.2 s by the profile
    assert status_of(work).slowdown == pytest.approx(3.0, rel=0.1)
    work.update_health(201.0, 0)
    assert work.state is InstanceState.INTERFERED


def finished(prompt_tokens: int, tokens: int, reason: FinishReason = "stop", cached: int = 0) -> FinishedAnswer:
    return FinishedAnswer(
        text="a", finish_reason=reason, prompt_tokens=prompt_tokens, completion_tokens=tokens, cached_tokens=cached
    )


def test_end_compares_time_with_prompt_and_steps_beside_others() -> None:
    work = work_of(Answer(), Answer())
    first = work.begin(0.0)
    assert first is not None
    work.part(first, 5, 0.1)
    second = work.begin(0.2)
    assert second is not None
    work.part(second, 1, 0.3)
    work.part(first, 5, 0.4)
    time = work.end(first, 0.5, finished(100, 10))
    assert time == (pytest.approx(0.5), pytest.approx(0.1 + 4 * 0.01 + 5 * 0.02), False)
    time = work.end(second, 0.6, finished(60, 1, cached=50))
    assert time == (pytest.approx(0.4), pytest.approx(0.01), True)


@pytest.mark.parametrize(
    ("draft_tokens", "predicted_s"),
    [
        pytest.param(None, 0.001 + 9 * 0.001, id="draft"),
        pytest.param(30, 0.001 + 29 * 0.001 + 0.01 + 9 * 0.01, id="escalated"),
        pytest.param(0, 0.001 + 0.01 + 9 * 0.01, id="draft failed"),
    ],
)
def test_end_compares_time_of_cascade_with_what_it_made(draft_tokens: int | None, predicted_s: float) -> None:
    work = work_of(Answer(), profile=CASCADE)
    begun = work.begin(0.0)
    assert begun is not None
    work.part(begun, 0, 0.1)
    work.part(begun, 10, 0.2)
    time = work.end(begun, 0.5, replace(finished(10, 10), draft_tokens=draft_tokens))
    assert time == (pytest.approx(0.5), pytest.approx(predicted_s), True)
    drafts = {30: (LengthCount(bucket_of(30), 1, 0),)}
    assert work.answer_lengths == (LengthCount(bucket_of(10), 1, 0), *drafts.get(draft_tokens or 0, ()))


def test_cancelled_answer_of_cascade_is_compared_with_typical_draft() -> None:
    work = work_of(Answer(), profile=CASCADE)
    begun = work.begin(0.0)
    assert begun is not None
    work.part(begun, 5, 0.1)
    time = work.end(begun, 0.5)
    assert time == (pytest.approx(0.5), pytest.approx(0.001 + 19 * 0.001 + 0.01 + 4 * 0.01), False)


def test_answer_of_cascade_beside_others_is_disturbed() -> None:
    work = work_of(Answer(), Answer(), profile=CASCADE)
    begun = work.begin(0.0)
    assert begun is not None
    work.part(begun, 1, 0.1)
    later = work.begin(0.2)
    assert later is not None
    assert not later.undisturbed, "the prompt of the first may be computed again, by the second stage"


def test_answer_that_began_beside_prompt_is_disturbed() -> None:
    work = work_of(Answer(), Answer())
    begun = [work.begin(0.0), work.begin(0.0)]
    for one in begun:
        assert one is not None
        work.part(one, 1, 0.1)
        time = work.end(one, 0.2, finished(10, 1))
        assert time is not None
        assert not time.undisturbed


def test_status_states_lengths_of_ended_and_cut_answers() -> None:
    work = work_of(*(Answer() for _ in range(4)))
    for tokens, end in ((3, finished(9, 3)), (5, finished(9, 5, "length")), (5, None), (0, None)):
        begun = work.begin(0.0)
        assert begun is not None
        if tokens:
            work.part(begun, tokens, 0.1)
        work.end(begun, 0.2, end)
    assert status_of(work).answer_lengths == (LengthCount(2, 1, 0), LengthCount(4, 0, 2))


def test_begin_expects_learned_length_of_running_answer() -> None:
    """The first answer has spent half of its pace. Few further tokens do not make up for another prompt, many do."""
    for learned, begins in ((20, False), (200, True)):
        work = work_of(*(Answer() for _ in range(20)), Answer(pace_s=0.021), Answer(prompt_tokens=30))
        for _ in range(20):
            earlier = work.begin(0.0)
            assert earlier is not None
            work.part(earlier, learned, 0.0)
            work.end(earlier, 0.1, finished(9, learned))
        work.meter.slowdown = 1.0
        paced = work.begin(1.0)
        assert paced is not None
        work.part(paced, 1, 1.0)
        assert (work.begin(1.05) is not None) is begins


def test_cancelled_answer_without_token_measures_nothing() -> None:
    work = work_of(Answer())
    begun = work.begin(0.0)
    assert begun is not None
    work.end(begun, 9.0)
    assert status_of(work).slowdown == 1.0


def test_many_unread_queries_overload_instance() -> None:
    work = work_of(*(Answer() for _ in range(40)))
    work.update_health(1.0, 0)
    assert work.state is InstanceState.OVERLOADED


def test_offline_room_is_half_of_sequences_and_none_beside_online() -> None:
    assert work_of().offline_room() == 1
    assert work_of(Answer(offline=True)).offline_room() == 0
    assert work_of(Answer()).offline_room() == 0


def test_busy_time_sums_slots_of_busy_instances() -> None:
    busy = BusyTime()
    busy.begin("a", 1, 0.0)
    busy.begin("a", 1, 1.0)
    busy.begin("b", 2, 1.0)
    assert busy.seconds(2.0) == 4.0
    busy.end("a", 3.0)
    busy.end("a", 4.0)
    assert busy.seconds(4.0) == 9.0

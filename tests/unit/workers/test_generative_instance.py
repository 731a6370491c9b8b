"""Tests of single steps of a generative instance, with stand-ins for its surroundings."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.kafka.types import Record
from runtimes.protocol import FinishedAnswer
from schemas.generation import AnswerPart, GenerationOptions
from schemas.generation_model import GenerationModel
from tests.unit.workers.test_generative_work import LATENCY, PROFILE
from tests.waiting import PATIENCE_S
from workers.serving.answer_run import AnswerRun
from workers.serving.generative_codec import QueryText
from workers.serving.generative_instance import GenerativeInstance
from workers.serving.generative_work import GenerativeWork, RunningWork
from workers.serving.pending_query import PendingQuery
from workers.slots.crash_journal import RecordKey


class Journal:
    """Crash journal with one region."""

    has_suspect = False

    def __init__(self) -> None:
        self.is_claimed = False
        self.suspected: list[RecordKey] = []

    def claim(self) -> int:
        self.is_claimed = True
        return 0

    def release(self, region: int) -> None:
        self.is_claimed = False

    def begin(self, region: int, keys: list[RecordKey]) -> None:
        assert self.is_claimed, "another instance may own the region"

    def end(self, region: int) -> None:
        assert self.is_claimed, "another instance may own the region"

    def crashes(self, key: RecordKey) -> int:
        return 0

    def suspect(self, keys: list[RecordKey]) -> None:
        self.suspected += keys


class Answers:
    """Refuses queries, and remembers it."""

    async def refuse(self, query: PendingQuery, error: Exception) -> None:
        query.answered = True

    async def retry_failed(self) -> None:
        await asyncio.Event().wait()


class Reader:
    """Consumer of a topic without records."""

    async def poll(self, most: int) -> list[Record]:
        await asyncio.Event().wait()
        return []

    def pause(self) -> None:
        pass


def nothing(*_given: object) -> None:
    pass


def text_of(deadline_s: float, **options: Any) -> QueryText:
    record = Record("t", 0, 1, 0, 0, None, b"", [])
    return QueryText(
        PendingQuery(record, {}, "1", "task"), 0, "a", GenerationOptions(**options), offline=False, allow_late=False,
        deadline_s=deadline_s, pace_s=float("inf"), prompt_tokens=10, streamed=False,
    )  # fmt: skip


def instance_of() -> tuple[GenerativeInstance, Any]:
    instance = GenerativeInstance.__new__(GenerativeInstance)
    model = GenerationModel(PROFILE)
    quiet = SimpleNamespace(begin=nothing, end=nothing)
    context = SimpleNamespace(
        settings=SimpleNamespace(compute_limit_s=1.0, compute_limit_factor=1.0),
        executor=SimpleNamespace(expects_online=nothing),
        generating=quiet,
        replacement=SimpleNamespace(ask=nothing),
    )
    inside: Any = SimpleNamespace(
        model=SimpleNamespace(name="a", generation_model=model), work=GenerativeWork(model, LATENCY, 0.0), _runs=set(),
        partitions=frozenset(), _context=context, _journal=Journal(), _region=None, _changed=asyncio.Event(),
        _progress=asyncio.Event(), _tasks=asyncio.TaskGroup(), _is_broken=False, _answers=Answers(), _online=Reader(),
        _offline=Reader(), _session=SimpleNamespace(start=nothing), _width=1,
        _loop=asyncio.get_running_loop(),
    )  # fmt: skip
    vars(instance).update(vars(inside))
    return instance, cast(Any, instance)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_offline_queries_go_on_if_waiting_online_answer_leaves(is_answered: bool) -> None:
    instance, inside = instance_of()
    waiting = text_of(time.monotonic() + (60.0 if is_answered else -1.0))
    instance.work.queue.add(waiting)
    async with asyncio.timeout(PATIENCE_S):
        room = asyncio.ensure_future(inside._room_for_offline())
        await asyncio.sleep(0)
        assert not room.done()
        waiting.query.answered = is_answered
        directing = asyncio.ensure_future(inside._direct())
        assert await room
        directing.cancel()


async def test_answer_that_ends_after_serving_leaves_journal_alone() -> None:
    instance, inside = instance_of()
    started = asyncio.Event()

    def start(*_given: object) -> None:
        started.set()

    inside._session.start = start
    serving = asyncio.ensure_future(instance.serve())
    instance.work.queue.add(text_of(time.monotonic() + 60.0))
    await started.wait()
    (run,) = inside._runs
    serving.cancel()
    await asyncio.wait({serving})
    assert not inside._journal.is_claimed
    inside._ended(run, None)
    assert not inside._runs


async def test_undisturbed_answers_show_drift_of_profile() -> None:
    instance, inside = instance_of()
    batches = list[tuple[object, ...]]()

    def computed(*batch: object) -> None:
        batches.append(batch)

    inside._profile = SimpleNamespace(computed=computed)
    inside.model.latency, inside._tokens = LATENCY, SimpleNamespace(first=nothing)
    finished = FinishedAnswer(text="a", finish_reason="stop", prompt_tokens=10, completion_tokens=3)
    runs = list[AnswerRun]()
    async with inside._tasks:
        for _ in range(2):
            instance.work.queue.add(text_of(time.monotonic() + 60.0))
            inside._begin_all(time.monotonic())
            runs += inside._runs.difference(runs)
            inside._part(runs[-1], AnswerPart(text="a", tokens=3))
        for run in runs:
            run.work.answer.query.answered = True  # nothing is to be sent
            inside._ended(run, finished)
    ((_latency, _seconds, predicted_s, _now_s),) = batches
    assert predicted_s == pytest.approx(0.01 + 2 * 0.02)


@pytest.mark.parametrize(("stop", "hangs"), [([], True), (["x" * 200], False)])
async def test_check_allows_for_text_that_is_withheld(stop: list[str], hangs: bool) -> None:
    _instance, inside = instance_of()
    work = RunningWork(text_of(60.0, stop=stop), 0.0, tokens=1, seen_s=0.0)
    run = AnswerRun(work)
    inside._runs.add(run)
    inside._check(run, 1.5)
    assert bool(inside._journal.suspected) is hangs


async def test_pause_ends_at_deadline_of_running_answer() -> None:
    _instance, inside = instance_of()
    running = cast(Any, SimpleNamespace(cancel=nothing))
    run = AnswerRun(RunningWork(text_of(5.0), 0.0, seen_s=0.0), running=running)
    inside._runs.add(run)
    assert inside._pause_s(4.9) == pytest.approx(0.1)
    assert inside._pause_s(1.0) == pytest.approx(0.25)
    run.cancel(None)
    assert inside._pause_s(6.0) == pytest.approx(0.25), "it was cancelled, and ends by itself"

"""Instance that makes answers token by token: the path of a query from the record to the acknowledged result.

    event loop         _queue_up  records -> _read (`variant_instance`): identify and decode the query -> answer queue
    event loop         _direct    begin answers that may begin, end late, hung and unwanted ones
    session's thread   on_part, on_end -> _part and _ended on the event loop
    task of an answer  _answer    parts to the reply topic; at the end encode -> outbox -> (acknowledged) -> done

Rules.
* The session has threads of its own, which make the next token of all running answers at once. They are outside the
  slots of the executor: a slot would be taken for the seconds of an answer, and other models' batches of milliseconds
  would wait for it. So the kernel shares the cores between them, and both show their slowdown.
* Offline queries wait while any model of the worker expects online ones: an offline answer cannot be interrupted.
* A query is decoded on the event loop: it is a text. Its words become tokens in the session's thread.
* An answer whose deadline has passed is cancelled, unless its client accepts a late one. An answer whose client is gone
  is cancelled as soon as that is known.
* An answer that makes no token for too long shows that the session hangs: the worker is replaced.
* The crash journal names the queries of all running answers. A suspect is computed alone.
* The answers of a partition that another worker took are cancelled.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, cast

from broker.delivery.consumer import Consumer, Record
from process.pauses import wait_within
from runtimes.protocol import FinishedAnswer, GenerativeSession
from schemas.errors import DeadlineExceeded, QueryError
from schemas.generation import AnswerPart
from workers.context import WorkerContext
from workers.serving.answer_parts import AnswerParts
from workers.serving.answer_run import AnswerEnd, AnswerRun
from workers.serving.corrected_profile import CorrectedProfile
from workers.serving.generative_codec import QueryText, decode_generation, outputs_of
from workers.serving.generative_work import GenerativeWork, RunningWork
from workers.serving.loading import footprint_of
from workers.serving.metrics import GenerationMetrics
from workers.serving.model import LoadedModel, ServableModel
from workers.serving.pending_query import PendingQuery
from workers.serving.variant_instance import VariantInstance
from workers.slots.crash_journal import RecordKey, record_key

T = TypeVar("T")
_LOOK_AGAIN_S: Final = 0.25
"""Pause before the next look at answers that may not begin, or may hang: no event tells when that changes."""


class GenerativeInstance(VariantInstance[GenerativeWork[RecordKey, QueryText], QueryText]):
    """Instance that makes answers token by token, in threads of the session."""

    def __init__(
        self,
        model: ServableModel,
        loaded: LoadedModel,
        online: Consumer,
        offline: Consumer,
        profile: CorrectedProfile,
        context: WorkerContext,
    ) -> None:
        work: GenerativeWork[RecordKey, QueryText] = GenerativeWork(
            model.generation_model, model.latency, time.monotonic()
        )
        super().__init__(model, work, online, offline, context)
        self._session = cast(GenerativeSession, loaded.session)
        self._profile = profile
        self._width = footprint_of(model, context.settings).width
        self._region: int | None = None
        self._runs: set[AnswerRun] = set()
        """Running answers."""
        self._changed = asyncio.Event()
        """Set when an answer may begin, or must end."""
        self._tasks = asyncio.TaskGroup()
        self._loop = asyncio.get_running_loop()
        self._is_broken = False
        self._tokens = GenerationMetrics(model)

    async def serve(self) -> None:
        """Serve until cancelled."""
        name = self.model.name
        self._region = self._journal.claim()
        try:
            async with self._tasks as tasks:
                tasks.create_task(self._take_in(), name=f"{name} take in")
                tasks.create_task(self._take_in_offline(), name=f"{name} take in offline")
                tasks.create_task(self._direct(), name=f"{name} direct")
                tasks.create_task(self._answers.retry_failed(), name=f"{name} retry")
        finally:
            for run in self._runs:
                run.cancel(None)
            self._context.generating.end(self, time.monotonic())
            region, self._region = self._region, None  # answers that end later must not write to it
            if region is not None:
                self._journal.release(region)

    # -- input ---------------------------------------------------------------------------------------------------------

    def _offline_room(self, now_s: float) -> tuple[int, float | None]:
        room = self.work.offline_room()
        if room and self._context.executor.expects_online(now_s):
            return 0, _LOOK_AGAIN_S
        return room, None

    async def _queue_up(self, records: list[Record]) -> int:
        inputs = 0
        for record in records:
            if record.partition in self.partitions:
                texts = await self._read(record)
                for text in texts:
                    self.work.queue.add(text)
                inputs += len(texts)
        self._changed.set()
        return inputs

    def _decode(self, query: PendingQuery, offset_ms: float, *, alone: bool) -> list[QueryText]:
        return decode_generation(query, self.model, offset_ms)  # `_begin_all` sees which answers must be alone

    def _arrived(self, key: RecordKey, query: PendingQuery, parts: list[QueryText]) -> None:
        self.work.arrived(key, query.batch, offline=parts[0].offline)

    # -- answers: their beginning, and the reasons to end them early ---------------------------------------------------

    async def _direct(self) -> None:
        while True:
            self._changed.clear()
            now_s = time.monotonic()
            expired = self.work.queue.expire(now_s)
            if expired:
                self._progress.set()
            for generation in expired:
                await self._refuse(generation.query, DeadlineExceeded())
            for run in list(self._runs):
                self._check(run, now_s)
            self._begin_all(now_s)
            await wait_within(self._pause_s(now_s), self._changed)

    def _pause_s(self, now_s: float) -> float | None:
        """Return the seconds until answers must be looked at again; None: not before an event."""
        cancellable = [run.work.answer for run in self._runs if run.cancelled_by is None and not run.is_dropped]
        ends_s = [answer.deadline_s for answer in cancellable if not answer.allow_late]
        deadline_s = min([self.work.queue.next_deadline_s(), *ends_s])
        waits_s = _LOOK_AGAIN_S if self._runs or len(self.work.queue) else math.inf
        pause_s = min(max(deadline_s - now_s, 0.0), waits_s)
        return None if pause_s == math.inf else pause_s

    def _begin_all(self, now_s: float) -> None:
        while not self._is_broken and (first := self.work.queue.first()) is not None:
            if first.query.answered:  # another text of its query has failed
                self.work.queue.remove([first])
                self._progress.set()
                continue
            is_suspect = self._is_suspect(first)
            if any(self._is_suspect(run.work.answer) for run in self._runs):
                return
            if is_suspect and self._journal.has_suspect:
                return
            begun = self.work.begin(now_s, alone=is_suspect)
            if begun is None:
                return
            self._journal.has_suspect = self._journal.has_suspect or is_suspect
            self._begin(begun, now_s)

    def _begin(self, begun: RunningWork[QueryText], now_s: float) -> None:
        answer, context = begun.answer, self._context
        run = AnswerRun(begun)
        if answer.streamed:
            unwanted = DeadlineExceeded("cancelled: nobody waits for this answer any more")
            cancel = partial(run.cancel, unwanted)
            run.parts = AnswerParts(answer.query, context.streams, context.producer, cancel, answer.number)
        answer.query.started_ns = answer.query.started_ns or time.monotonic_ns()
        self._runs.add(run)
        self._note_running()
        context.generating.begin(self, self._width, now_s)
        run.running = self._session.start(
            answer.text, answer.options, partial(self._soon, self._part, run), partial(self._soon, self._ended, run)
        )
        self._tasks.create_task(self._answer(run), name=f"{self.model.name} answer")

    def _check(self, run: AnswerRun, now_s: float) -> None:
        """Cancel an answer that is late; replace the worker if the answer hangs."""
        work, answer = run.work, run.work.answer
        if answer.deadline_s <= now_s and not answer.allow_late:
            run.cancel(DeadlineExceeded())
        settings, times = self._context.settings, self.model.generation_model
        next_s = times.step_s(len(self._runs)) * (1 + answer.withheld_tokens)
        next_s += 0.0 if work.tokens else times.prompts_s(answer.prompt_tokens)
        limit_s = max(settings.compute_limit_s, settings.compute_limit_factor * next_s * len(self._runs))
        if now_s - work.seen_s > limit_s and not self._is_broken:
            self._is_broken = True
            self._journal.suspect([record_key(one.work.answer.query.record) for one in self._runs])
            self._context.replacement.ask(f"{self.model.name} has made no token for {limit_s:.3g} s")

    def _is_suspect(self, generation: QueryText) -> bool:
        return self._journal.crashes(record_key(generation.query.record)) > 0

    def _note_running(self) -> None:
        """Write the running queries to the crash journal."""
        if self._region is None:
            return
        by_topic = sorted({record_key(run.work.answer.query.record) for run in self._runs})
        if by_topic:
            self._journal.begin(self._region, [key for key in by_topic if key[0] == by_topic[0][0]])
        else:
            self._journal.end(self._region)

    # -- output --------------------------------------------------------------------------------------------------------

    def _soon(self, call: Callable[[AnswerRun, T], None], run: AnswerRun, event: T) -> None:
        """Have the event loop handle an event of the session's thread."""
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(call, run, event)

    def _part(self, run: AnswerRun, part: AnswerPart) -> None:
        now_s = time.monotonic()
        if part.tokens and run.work.first_s is None:
            self._tokens.first(now_s - run.work.answer.query.sent_ns / 1e9)
        self.work.part(run.work, part.tokens, now_s)
        run.add(part)

    def _ended(self, run: AnswerRun, end: AnswerEnd) -> None:
        now_s = time.monotonic()
        time_s = self.work.end(run.work, now_s, end if isinstance(end, FinishedAnswer) else None)
        if time_s is not None and time_s.undisturbed:
            self._profile.computed(self.model.latency, time_s.seconds, time_s.predicted_s, now_s)
        if self._is_suspect(run.work.answer):
            self._journal.has_suspect = False
        self._runs.remove(run)
        self._note_running()
        if not self._runs:
            self._context.generating.end(self, now_s)
        self._changed.set()
        self._progress.set()
        run.finish(end)

    async def _answer(self, run: AnswerRun) -> None:
        """Send one answer, from its first part to the result of its query."""
        end, work, answer = await run.send_parts(), run.work, run.work.answer
        query, now_s = answer.query, time.monotonic()
        if run.is_dropped or query.answered:
            return
        if not isinstance(end, FinishedAnswer):
            await self._refuse(query, end or run.cancelled_by or DeadlineExceeded())
            return
        began_ns, took_ns = int(work.began_s * 1e9), int((now_s - work.began_s) * 1e9)
        exemplar = None if self._spans is None else self._spans.generated(query, began_ns, began_ns + took_ns)
        self._metrics.count_batch(1, now_s - work.began_s, exemplar)
        self._tokens.ended(end, now_s - (work.first_s or now_s))
        if query.add(answer.number, outputs_of(end, answer.options), began_ns, took_ns):
            await self._answers.send_result(query)

    async def _refuse(self, query: PendingQuery, error: QueryError) -> None:
        """Send the error of a query, and cancel the answers to its other texts."""
        if query.answered:
            return
        await self._answers.refuse(query, error)
        for run in self._runs:
            if run.work.answer.query is query:
                run.cancel(error)

    # -- changes from outside ------------------------------------------------------------------------------------------

    def use_model(self, model: ServableModel) -> None:
        """Use the number of answers at once and the times of this model from now on."""
        super().use_model(model)
        self.work.use_model(model.generation_model, model.latency)
        self._changed.set()

    def _discard(self, partitions: Collection[int]) -> None:
        self.work.queue.remove([g for g in self.work.queue.waiting() if g.query.record.partition in partitions])
        for run in self._runs:
            if run.work.answer.query.record.partition in partitions:
                run.cancel(None)

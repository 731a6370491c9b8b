"""Computation of one model's batches in a slot, with the crash journal; a failure is limited to one query.

    Computation.batch(parts) -> ComputableBatch -> the executor calls `compute`, or `abandon` past its limit -> posted

Rules.
* The queries of a batch that raises are computed again one by one, so that only the faulty one fails. If none succeeds,
  the session or its device may be broken. Then the probe, an input that succeeded when the model was loaded, is
  computed. If the probe fails too, no query is answered: the worker is replaced and the queries are delivered again. If
  it succeeds, the input is refused as `invalid_request`.
* A part with more inputs than a batch holds is computed by several calls in a row, and fails as a whole.
* A runtime may raise any error, so the error itself does not tell a wrong input from a broken model. Running out of
  memory is always reported as `model_failed`.
* An input that cannot be read (a text too long, a file that is no image) is refused, and the others are computed
  without it.
* A batch past its time limit is abandoned, because nothing can interrupt it. If it holds one query, that query has
  failed. If it holds several, each becomes a suspect and is computed alone, one after the other.
* A batch may be computed on the event loop (`is_brief`) only if the model has proved to be brief on such inputs: the
  inputs have fixed shapes, the graph has no loop (an input could keep it running for ever), the last batches took
  almost no time, and none of its queries is a suspect.
"""

import asyncio
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar

from runtimes.processing.session import RefusedRows
from schemas.errors import InvalidRequest, ModelFailed, QueryError, RefusalReason
from schemas.latency import LatencyModel
from schemas.rows.catalog import TensorSpec
from workers.context import WorkerContext
from workers.serving.codec import stack, unstack
from workers.serving.loading import first_line, is_out_of_memory
from workers.serving.model import LoadedModel, ServableModel
from workers.serving.pending_query import Arrays, QueryPart, join_outputs, one_for_each, rows
from workers.slots.crash_journal import record_key

_SHOWN: Final = 200
_STATUS: Final = re.compile(r".*Status Message: ", re.DOTALL)
_CODES: Final = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_CHECK: Final = re.compile(r".*?\bwas false\.\s*", re.DOTALL)
_PATH: Final = re.compile(r"(?:[\w.+-]*/)+[\w.+-]*(?::\d+)?|\b[\w.-]+\.(?:cc|cpp|cu|cuh|h|hpp|py):\d+")
_SIGNATURE: Final = re.compile(r"(?:[\w:<>*&~]+\s)*[\w<>~]+(?:::[\w<>~]+)+\([^)]*\)(?: const)?")


class InputFailure(ModelFailed):
    """Error of a model on an input while it is unknown if the model still computes other inputs."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the model failed on this input: {words}")
        self._words = words

    def as_refusal(self) -> InvalidRequest:
        """Return the error to send if the model still computes other inputs."""
        return InvalidRequest(f"the model fails on this input only: {self._words}")


def input_failure(error: Exception) -> ModelFailed:
    """Return the failure of an input that was computed alone."""
    if is_out_of_memory(error):
        message = "there was not enough memory to compute this input: send fewer inputs at a time, or shorter ones"
        return ModelFailed(message, reason=RefusalReason.OUT_OF_MEMORY)
    return InputFailure(_in_words(error))


def _in_words(error: Exception) -> str:
    text = _CODES.sub("", _STATUS.sub("", str(error)))
    if "was false." in text:
        text = _CHECK.sub("", text)
    text = _SIGNATURE.sub("", _PATH.sub("", text))
    text = " ".join(text.split()).strip(" :;,.")
    return text[:_SHOWN] or first_line(error).partition(":")[0][:_SHOWN] or type(error).__name__


_BRIEF_S: Final = 0.0002
"""Approximate seconds of a hop to a thread and back: two wake-ups, and two waits for the interpreter's lock."""
_PROVEN_S: Final = 0.001
"""Seconds of CPU that each of the last batches may have taken; above `_BRIEF_S`, because caches are cold at times."""
_PROVING_BATCHES: Final = 64

T = TypeVar("T")


class ComputedBatch(NamedTuple):
    """Batch with the result of each part."""

    parts: list[QueryPart]
    results: list[Arrays | QueryError]
    started_ns: int = 0
    compute_ns: int = 0
    slot: int = 0
    shared: bool = False
    """True if another slot computed at the same time."""
    consecutive: bool = False
    """True if its slot computed nothing of another instance since this instance's previous batch."""


class Computation:
    """Computation of the batches of one instance; `post` is called on the event loop with each computed batch.

    Several threads compute at once if the session allows it.
    """

    def __init__(
        self,
        model: ServableModel,
        loaded: LoadedModel,
        context: WorkerContext,
        post: Callable[[ComputedBatch], None],
        compute_again: Callable[[list[QueryPart]], None],
    ) -> None:
        self._name = model.name
        self._model = model
        self._session, self._probe = loaded.session, loaded.probe
        self._journal = context.journal
        self._settings = context.settings
        self._replacement = context.replacement
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._post = post
        self._compute_again = compute_again
        self._is_even = not loaded.may_loop and all(_is_fixed(spec) for spec in model.inputs)
        self.use_latency_model(model.latency)
        self._brief_batches = 0
        """Number of consecutive batches that took almost no time."""
        self.broken = False
        """True if the session fails on every input."""

    def use_latency_model(self, latency: LatencyModel) -> None:
        """Use this model's best and largest batch size for parts that need several calls of the session."""
        self._best_batch, self._max_batch = latency.best_batch, latency.max_batch

    def batch(self, parts: list[QueryPart], predicted_s: float) -> "ComputableBatch":
        """Make a batch of parts that is predicted to take `predicted_s` seconds."""
        is_suspect = any(map(self.is_suspect, parts))
        is_brief = (
            predicted_s < _BRIEF_S and self._is_even and self._brief_batches >= _PROVING_BATCHES and not is_suspect
        )
        if is_suspect:
            self._journal.has_suspect = True
        limit_s = max(self._settings.compute_limit_s, self._settings.compute_limit_factor * predicted_s)
        inputs = sum(part.inputs for part in parts)
        return ComputableBatch(self, parts, inputs, predicted_s, limit_s, is_brief, is_suspect)

    def is_suspect(self, part: QueryPart) -> bool:
        """Return true if the worker has died, or hung, while it computed this query."""
        return self._journal.crashes(record_key(part.query.record)) > 0

    def compute(self, batch: "ComputableBatch", slot: int) -> None:
        """Compute a batch in the slot's thread, or on the event loop if it is brief."""
        parts = batch.parts
        batch.slot = slot
        self._journal.begin(slot, [record_key(part.query.record) for part in parts])
        started_ns, cpu_began = time.monotonic_ns(), time.thread_time()
        results = self._infer(parts)
        compute_ns = time.monotonic_ns() - started_ns
        self._brief_batches = self._brief_batches + 1 if time.thread_time() - cpu_began < _PROVEN_S else 0
        self._journal.end(slot)
        if batch.is_suspect:
            self._journal.has_suspect = False
        if _is_suspicious(results) and not self._probe_succeeds():
            self._on_loop(self._replacement.ask_at_once, f"{self._name} fails on every input")
            return
        results = [result.as_refusal() if isinstance(result, InputFailure) else result for result in results]
        self.post(ComputedBatch(parts, results, started_ns, compute_ns, slot, batch.shared, batch.consecutive))

    def set_aside(self, batch: "ComputableBatch") -> None:
        """Allow the next suspect to be computed, so that several suspects that never end wait for one limit only."""
        if batch.is_suspect:
            self._journal.has_suspect = False

    def abandon(self, batch: "ComputableBatch") -> None:
        """Give up a batch that still computes past its limit; call on the event loop."""
        parts, limit_s = batch.parts, batch.limit_s
        self.set_aside(batch)
        if len(parts) == 1:
            message = f"computing this took longer than {limit_s:.3g} s"
            self.post(ComputedBatch(parts, [ModelFailed(message, reason=RefusalReason.COMPUTE_TIMEOUT)]))
        else:
            self._journal.suspect([record_key(part.query.record) for part in parts])
            self._journal.end(batch.slot)
            self._compute_again(parts)
        self._replacement.ask(f"{self._name} has computed {len(parts)} queries for more than {limit_s:.3g} s")

    def post(self, computed: ComputedBatch) -> None:
        """Hand a computed batch to the answering task; callable from any thread."""
        self._on_loop(self._post, computed)

    def _on_loop(self, call: Callable[[T], None], argument: T) -> None:
        if threading.get_ident() == self._loop_thread:
            call(argument)
        else:
            self._loop.call_soon_threadsafe(call, argument)

    def _infer(self, parts: list[QueryPart]) -> list[Arrays | QueryError]:
        try:
            if parts[0].inputs > self._max_batch:  # such a part is alone in its batch
                return [*map(self._infer_in_a_row, parts)]
            return [*unstack(parts, self._session.infer(stack(parts)), self._model)]
        except RefusedRows as refused:
            return self._infer_others(parts, refused.errors)
        except Exception as error:  # noqa: BLE001 - a runtime may raise any error; only the faulty query must fail
            if len(parts) == 1:
                return [error if isinstance(error, QueryError) else input_failure(error)]
        return [result for part in parts for result in self._infer([part])]

    def _infer_in_a_row(self, part: QueryPart) -> Arrays:
        found: list[Arrays] = []
        for start in range(0, part.inputs, self._best_batch):
            count = min(self._best_batch, part.inputs - start)
            found.append(one_for_each(count, self._session.infer(rows(part.tensors, start, count))))
        return join_outputs(found, self._model.outputs)

    def _infer_others(self, parts: list[QueryPart], errors: Mapping[int, InvalidRequest]) -> list[Arrays | QueryError]:
        """Compute the parts without unreadable inputs; `errors` maps the row numbers of those to their errors."""
        ends = [*accumulate(part.inputs for part in parts)]
        wrong = {bisect_right(ends, number): error for number, error in errors.items()}
        others = [part for index, part in enumerate(parts) if index not in wrong]
        results = iter(self._infer(others) if others else ())
        return [wrong[index] if index in wrong else next(results) for index in range(len(parts))]

    def _probe_succeeds(self) -> bool:
        try:
            self._session.infer(self._probe)
        except Exception:  # noqa: BLE001 - as above
            self.broken = True
            return False
        return True


@dataclass(slots=True, eq=False)
class ComputableBatch:
    """Batch that was taken out of the queue."""

    computation: Computation
    parts: list[QueryPart]
    inputs: int
    predicted_s: float
    limit_s: float
    is_brief: bool
    """True if it takes less time than a hop to a thread."""
    is_suspect: bool
    """True if the worker has died, or hung, while it computed one of its queries."""
    slot: int = 0
    """Slot that computes it."""
    consecutive: bool = False
    """True if its slot computed nothing of another instance since this instance's previous batch."""
    shared: bool = False
    """True if another slot computed at the same time."""

    def compute(self, slot: int) -> None:
        """Compute it in this slot."""
        self.computation.compute(self, slot)

    def set_aside(self) -> None:
        """Allow the next suspect to be computed."""
        self.computation.set_aside(self)

    def abandon(self) -> None:
        """Give it up: it has taken longer than its limit."""
        self.computation.abandon(self)


def _is_suspicious(results: Sequence[Arrays | QueryError]) -> bool:
    """Return true if no part succeeded and the model failed on at least one: the session may be broken."""
    failed = any(isinstance(result, ModelFailed) for result in results)
    return failed and not any(isinstance(result, dict) for result in results)


def _is_fixed(spec: TensorSpec) -> bool:
    """Return true if all inputs have one size, so that a graph without loops takes the same time for each."""
    return spec.datatype != "BYTES" and all(length >= 0 for length in spec.shape[1:])

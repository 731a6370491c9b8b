"""Computation of one model's batches in a slot, with the crash journal; a failure is limited to one query.

    Computation.batch(parts) -> ComputableBatch -> the executor calls `compute`, or `abandon` past its limit -> posted

Rules.
* The queries of a batch that raises are computed again one by one, so that only the faulty one fails. If none succeeds,
  the session or its device may be broken. Then the probe, an input that succeeded when the model was loaded, is
  computed. If the probe fails too, no query is answered: the worker is replaced and the queries are delivered again. If
  it succeeds, the input is refused as `invalid_request`.
* A part with more inputs than a batch holds is computed by several calls in a row, and fails as a whole.
* An input that cannot be read (a text too long, a file that is no image) is refused, and the others are computed
  without it.
* A batch past its time limit is abandoned, because nothing can interrupt it. If it holds one query, that query has
  failed. If it holds several, each becomes a suspect and is computed alone, one after the other.
* A batch may be computed on the event loop (`is_brief`) only if the model has proved to be brief on such inputs: the
  inputs have fixed shapes, the graph has no loop (an input could keep it running for ever), the last batches took
  almost no time, and none of its queries is a suspect.
"""

import threading
import time
from asyncio import AbstractEventLoop
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar

from runtimes.processing.session import RefusedRows
from schemas.errors import InvalidRequest, ModelFailed, QueryError, RefusalReason
from schemas.latency import LatencyModel
from schemas.rows.catalog import TensorSpec
from workers.codec import QueryPart, stack, unstack
from workers.crash_journal import CrashJournal, record_key
from workers.input_failure import InputFailure, input_failure
from workers.input_rows import Arrays, join_outputs, one_for_each, rows
from workers.model import LoadedModel, ServableModel
from workers.replacement import Replacement

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


class ComputeLimits(NamedTuple):
    """Limits after which a batch counts as one that never ends."""

    least_s: float
    factor: float
    """Multiple of the predicted time."""

    def of(self, predicted_s: float) -> float:
        """Return the seconds that a batch may take whose predicted time is `predicted_s`."""
        return max(self.least_s, self.factor * predicted_s)


class Computation:
    """Computation of the batches of one instance; `post` is called on the event loop with each computed batch.

    Several threads compute at once if the session allows it.
    """

    def __init__(
        self, model: ServableModel, loaded: LoadedModel, journal: CrashJournal, limits: ComputeLimits,
        replacement: Replacement, loop: AbstractEventLoop, post: Callable[[ComputedBatch], None],
        compute_again: Callable[[list[QueryPart]], None],
    ) -> None:  # fmt: skip
        self._name = model.name
        self._session, self._probe = loaded.session, loaded.probe
        self._journal = journal
        self._limits = limits
        self._replacement = replacement
        self._loop = loop
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
        limit_s = self._limits.of(predicted_s)
        return ComputableBatch(self, parts, predicted_s, limit_s, is_brief=is_brief, is_suspect=is_suspect)

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
            return [*unstack(parts, self._session.infer(stack(parts)))]
        except RefusedRows as refused:
            return self._infer_others(parts, refused.errors)
        except Exception as error:  # noqa: BLE001 - a runtime may raise any error; only the faulty query must fail
            if len(parts) == 1:
                return [error if isinstance(error, QueryError) else input_failure(error)]
        return [result for part in parts for result in self._infer([part])]

    def _infer_in_a_row(self, part: QueryPart) -> Arrays:
        """Compute a part by several calls of the session."""
        found: list[Arrays] = []
        for start in range(0, part.inputs, self._best_batch):
            count = min(self._best_batch, part.inputs - start)
            found.append(one_for_each(count, self._session.infer(rows(part.tensors, start, count))))
        return join_outputs(found)

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


class ComputableBatch:
    """Batch that was taken out of the queue."""

    __slots__ = (
        "_computation", "consecutive", "is_brief", "is_suspect", "limit_s", "parts", "predicted_s", "shared", "slot",
    )  # fmt: skip

    def __init__(
        self, computation: Computation, parts: list[QueryPart], predicted_s: float, limit_s: float,
        *, is_brief: bool, is_suspect: bool,
    ) -> None:  # fmt: skip
        self._computation = computation
        self.parts = parts
        self.slot = 0
        """Slot that computes it."""
        self.is_suspect = is_suspect
        """True if the worker has died, or hung, while it computed one of its queries."""
        self.predicted_s = predicted_s
        self.limit_s = limit_s
        self.is_brief = is_brief
        """True if it takes less time than a hop to a thread."""
        self.consecutive = False
        """True if its slot computed nothing of another instance since this instance's previous batch."""
        self.shared = False
        """True if another slot computed at the same time."""

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return sum(part.inputs for part in self.parts)

    def compute(self, slot: int) -> None:
        """Compute it in this slot."""
        self._computation.compute(self, slot)

    def set_aside(self) -> None:
        """Allow the next suspect to be computed."""
        self._computation.set_aside(self)

    def abandon(self) -> None:
        """Give it up: it has taken longer than its limit."""
        self._computation.abandon(self)


def _is_suspicious(results: Sequence[Arrays | QueryError]) -> bool:
    """Return true if no part succeeded and the model failed on at least one: the session may be broken."""
    failed = any(isinstance(result, ModelFailed) for result in results)
    return failed and not any(isinstance(result, dict) for result in results)


def _is_fixed(spec: TensorSpec) -> bool:
    """Return true if all inputs have one size, so that a graph without loops takes the same time for each."""
    return spec.datatype != "BYTES" and all(length >= 0 for length in spec.shape[1:])

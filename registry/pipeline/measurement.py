"""Measures a variant, or only computes its outputs, in a process that has loaded nothing else.

The order of a measurement matters. The runtime's package is imported first, so that its memory is not counted. Then
follow the load, every batch size on cores of its own (`timing`), and the peak of memory, all in the turn of this step
if several steps run at once. The outputs for all samples come last: they take the most time, and none of it is
measured.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from process.cpus import usable_cores
from registry.pipeline.generation_timing import batch_latencies, make_token, time_generation
from registry.pipeline.timing import (
    Case,
    Run,
    RunObserver,
    Timing,
    batch_sizes,
    observed_quietly,
    time_cases,
    time_uneven,
)
from registry.samples import Arrays, batches_of, load_arrays, save_arrays, take_rows
from runtimes import cuda
from runtimes.catalog import find_runtime, import_package, is_generative
from runtimes.composite import CASCADE, runtimes_within
from runtimes.device import device_name
from runtimes.generative_cascade import GenerativeCascadeSession
from runtimes.padding import FACTOR, axis_sizes, cut_to, join_rows, pad_to, row_size
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import LoadOptions, Session, Tensors
from schemas.generation import TEXT_INPUT, GenerationProfile
from schemas.hardware import Hardware
from schemas.latency import LENGTH_BATCH, BatchLatency, LatencyFit, LengthLatency, fit_latency
from schemas.rows.catalog import Processing
from schemas.signature import TensorSpec

_NO_TURN: Final = nullcontext()
"""Turn of a step that runs alone."""
_LENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Lengths to measure, as factors of the samples' length."""
_SINGLE_ROWS: Final = 4
"""Samples computed one by one, to test whether outputs depend on the batch."""
_RESET_PEAK: Final = Path("/proc/self/clear_refs")
_PROCESS_STATUS: Final = Path("/proc/self/status")
_ROWS: Final = 8
_LOOKED_AT: Final = 32
"""Number of texts from which the shortest are taken; longer ones may not leave room for padding."""
_TOLERANCE: Final = 0.01
_LOSSY_TOLERANCE: Final = 0.05
"""Shares of an output's range by which it may differ; dynamic INT8 depends more on the rest of the batch."""


class Measurement(msgspec.Struct, frozen=True):
    """Latency, load time and memory of one variant."""

    device: str
    load_s: float
    memory_bytes: int
    latency: tuple[BatchLatency, ...]
    fit: LatencyFit
    lengths: tuple[LengthLatency, ...] = ()
    """Latency by length of the inputs, if the length is variable."""
    mixes_lengths: bool = False
    """True if inputs of different lengths may share a batch."""
    threads: int = 1
    """Threads that computed a batch."""
    generation: GenerationProfile | None = None
    """Measurements of a generative variant."""


class _VariantStep(msgspec.Struct, frozen=True):
    """Step that computes samples by one variant."""

    artifact: Path
    runtime: str
    hardware: str
    options: LoadOptions
    samples: Path
    outputs: Path
    """File for the outputs of all samples."""
    processing: Processing | None = None
    """Processing around the model, its files as paths; it is measured as well."""

    def load(self) -> Session:
        """Load the variant with its processing; raises any error of the runtime."""
        session = find_runtime(self.runtime).load(self.artifact, self.hardware, self.options)
        return session if self.processing is None else ProcessedSession(session, self.processing)


class MeasureVariant(_VariantStep, frozen=True, tag=True):
    """Profile a variant and store its outputs."""

    single_outputs: Path | None = None
    """File for the first outputs, computed one by one; None: they are not computed."""
    tensors: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself."""
    returned: tuple[TensorSpec, ...] = ()
    """Outputs of the model itself."""

    def run(self, turn: AbstractContextManager[None] = _NO_TURN) -> Measurement:
        """Measure the variant, and time it within `turn`; raises any error of the runtime."""
        samples = load_arrays(self.samples)
        for name in self._runtimes:
            import_package(name)
        with turn:
            session, measurement = self._profile(samples)
        save_arrays(self.outputs, compute_all(session, samples, self.options))
        if isinstance(session, GenerativeCascadeSession):
            measurement = with_escalated_share(measurement, session.escalated)
        if self.single_outputs is not None:
            save_arrays(self.single_outputs, self._compute_one_by_one(samples))
        return measurement

    @property
    def _runtimes(self) -> tuple[str, ...]:
        return runtimes_within(self.runtime, self.artifact)

    @property
    def _is_generative(self) -> bool:
        runtime, *stages = self._runtimes
        return is_generative(runtime) or (runtime == CASCADE and all(map(is_generative, stages)))

    def _profile(self, samples: Arrays) -> tuple[Session, Measurement]:
        if self._is_generative:
            return self._profile_generation(samples)
        memory = MemoryGrowth(self.hardware)
        began = time.perf_counter()
        session = self.load()
        # Compilation and allocation at the first batch count as loading.
        session.infer(take_rows(samples, 0, 1))
        load_s = time.perf_counter() - began
        mixes = lengths_mix(session, samples, self.tensors, self.returned, self.options.precision)
        if isinstance(session, ProcessedSession):
            session.mix_lengths(mixes)
        even = CASCADE not in self._runtimes
        latency = self._time(session, samples, even=even)
        lengths = self._time_lengths(session, samples) if even else ()
        peak = memory.peak_bytes()
        fit, threads = fit_latency(latency), self.options.threads
        return session, Measurement(device_name(self.hardware), load_s, peak, latency, fit, lengths, mixes, threads)

    def _profile_generation(self, samples: Arrays) -> tuple[Session, Measurement]:
        options, memory, began = self.options, MemoryGrowth(self.hardware), time.perf_counter()
        session = find_runtime(self.runtime).load(self.artifact, self.hardware, options)
        make_token(session)
        load_s = time.perf_counter() - began
        generation = time_generation(session, samples[TEXT_INPUT], options, self._cores)
        peak = memory.peak_bytes()
        latency = batch_latencies(generation)
        name, fit = device_name(self.hardware), fit_latency(latency)
        return session, Measurement(name, load_s, peak, latency, fit, threads=options.threads, generation=generation)

    def _time(self, session: Session, samples: Arrays, *, even: bool) -> tuple[BatchLatency, ...]:
        sizes = batch_sizes(self.options.max_batch)
        timed = _timed(session, {size: _rows_of(samples, size) for size in sizes}, self._cores, even=even)
        return tuple(batch_latency(size, timing) for size, timing in zip(sizes, timed, strict=True))

    def _time_lengths(self, session: Session, samples: Arrays) -> tuple[LengthLatency, ...]:
        """Time inputs shorter and longer than the samples, within the lengths that the model accepts."""
        variable = {spec.name: variable_axes(spec) for spec in self.tensors if spec.datatype != "BYTES"}
        if isinstance(session, ProcessedSession) or not any(variable.values()):
            return ()
        rows = take_rows(samples, 0, min(LENGTH_BATCH, self.options.max_batch))
        by_length = {row_size(made): made for factor in _LENGTHS for made in [at_length(rows, factor, variable)]}
        chosen = {length: made for length, made in sorted(by_length.items()) if _computes(session, made)}
        timed = _timed(session, {at: _always(made) for at, made in chosen.items()}, self._cores, even=True)
        typical = row_size(rows)
        return tuple(LengthLatency(at, one.p50_s, at == typical) for at, one in zip(chosen, timed, strict=True))

    @property
    def _cores(self) -> int | None:
        """CPU cores to compute on; None if another device computes."""
        return self.options.threads if self.hardware == Hardware.CPU else None

    def _compute_one_by_one(self, samples: Arrays) -> Arrays:
        session = self.load()
        alone = LoadOptions(precision=self.options.precision, threads=self.options.threads, max_batch=1)
        return compute_all(session, take_rows(samples, 0, _SINGLE_ROWS), alone)


class ComputeOutputs(_VariantStep, frozen=True, tag=True):
    """Load a variant and store its outputs for all rows of a file."""

    mixes_lengths: bool = False
    """True if inputs of different lengths may share a batch."""

    def run(self) -> None:
        """Compute the outputs; raises any error of the runtime."""
        session = self.load()
        if isinstance(session, ProcessedSession):
            session.mix_lengths(self.mixes_lengths)
        save_arrays(self.outputs, compute_all(session, load_arrays(self.samples), self.options))


def with_escalated_share(measured: Measurement, escalated: float) -> Measurement:
    """Return the measurement of a generative cascade with the share of its answers that escalate."""
    assert measured.generation is not None, "of a generative cascade"
    generation = msgspec.structs.replace(measured.generation, escalated=escalated)
    latency = batch_latencies(generation)
    return msgspec.structs.replace(measured, generation=generation, latency=latency, fit=fit_latency(latency))


# -- latency -----------------------------------------------------------------------------------------------------------
def batch_latency(batch: int, timing: Timing) -> BatchLatency:
    """Return the timing of one batch size as a row of the profile."""
    t = timing
    return BatchLatency(batch, t.p50_s, t.p99_s, t.cpu_s, t.runs, t.discarded, t.noise, t.mean_s)


def _timed(
    session: Session, inputs: Mapping[int, Callable[[int], Arrays]], cores: int | None, *, even: bool
) -> list[Timing]:
    """Time batches on as many cores as they have threads; without `cores`, threads are not pinned."""
    with observed_quietly(cores) as (observer, find_quiet):
        cases = {size: _case(session, observer, take) for size, take in inputs.items()}
        return time_cases([*cases.values()], find_quiet) if even else time_uneven(cases)


def _case(session: Session, observer: RunObserver, take: Callable[[int], Arrays]) -> Case:
    def run(turn: int) -> Run:
        inputs = take(turn)
        return observer.observe(lambda: session.infer(inputs))

    return run


def at_length(rows: Arrays, factor: float, variable: Mapping[str, Sequence[int]]) -> Arrays:
    """Return inputs `factor` times as long in their `variable` axes: cut, or repeated from the beginning."""
    made: Arrays = {}
    for name, array in rows.items():
        for axis in variable.get(name, ()):
            places = np.arange(max(round(array.shape[axis] * factor), 1)) % array.shape[axis]
            array = array.take(places, axis)
        made[name] = array
    return made


def _computes(session: Session, inputs: Arrays) -> bool:
    try:
        session.infer(inputs)
    except Exception:  # noqa: BLE001 - any error of the runtime means that the model does not accept this length
        return False
    return True


def _always(inputs: Arrays) -> Callable[[int], Arrays]:
    return lambda _turn: inputs


def _rows_of(samples: Arrays, batch: int) -> Callable[[int], Arrays]:
    return lambda turn: take_rows(samples, turn * batch, batch)


# -- outputs -----------------------------------------------------------------------------------------------------------
def compute_all(session: Session, samples: Arrays, options: LoadOptions) -> Arrays:
    """Return the outputs for all samples, computed in batches of at most `max_batch`, on all cores.

    Raises:
        ValueError: the shape of an output depends on the content of its input.
    """
    with ThreadPoolExecutor(_lanes(options)) as lanes:
        parts = list(lanes.map(session.infer, batches_of(samples, options.max_batch)))
    return join_rows(parts, session.outputs if isinstance(session, ProcessedSession) else ())


def _lanes(options: LoadOptions) -> int:
    return max(1, usable_cores() // options.threads)


# -- memory ------------------------------------------------------------------------------------------------------------
class MemoryGrowth:
    """Peak of the memory that this process, or the device, has allocated since this object was created."""

    def __init__(self, hardware: str) -> None:
        self._on_cuda = hardware == Hardware.CUDA
        self._process = psutil.Process()
        _reset_peak()
        self._start = cuda.memory_used() if self._on_cuda else self._process.memory_info().rss

    def peak_bytes(self) -> int:
        """Return the growth in bytes; for a device, which keeps no peak, the memory in use now."""
        now = cuda.memory_used() if self._on_cuda else max(_peak(), self._process.memory_info().rss)
        return max(now - self._start, 0)


def _reset_peak() -> None:
    """Reset the peak that Linux keeps since the start of the process."""
    try:
        _RESET_PEAK.write_text("5")
    except OSError:
        return  # not Linux, or not permitted: the present size is used


def _peak() -> int:
    try:
        status = _PROCESS_STATUS.read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "")
    return int(line.split()[1]) * 1024 if line else 0


# -- mixed lengths -----------------------------------------------------------------------------------------------------


def lengths_mix(
    session: Session, samples: Arrays, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], precision: str
) -> bool:
    """Return true if a model with these tensors gives padded inputs the same answers, but for the padding; blocks."""
    variable = {spec.name: axes for spec in inputs if (axes := variable_axes(spec))}
    if not variable or any(spec.datatype == "BYTES" for spec in inputs):
        return False
    fill: Mapping[str, int] = {}
    rows: list[Arrays] = [take_rows(samples, row, 1) for row in range(_ROWS)]
    if isinstance(session, ProcessedSession):
        (texts,) = take_rows(samples, 0, _LOOKED_AT).values()
        rows = sorted(session.prepared(texts.tolist()), key=row_size)[:_ROWS]
        fill, session = session.fill, session.model
    try:
        rows = [{spec.name: row[spec.name] for spec in inputs} for row in rows]
        alone = [session.infer(row) for row in rows]
        longer = [session.infer(pad_to(row, FACTOR, variable, fill)) for row in rows]
        padded = [cut_to(one, outputs, axis_sizes(inputs, row)) for one, row in zip(longer, rows, strict=True)]
        return all(_same(pair, precision) for pair in _by_output(alone, padded))
    except Exception:  # noqa: BLE001 - any error of the runtime means that the model does not accept this length
        return False


def variable_axes(spec: TensorSpec) -> list[int]:
    """Return the axes of variable size, without the batch."""
    return [axis for axis, size in enumerate(spec.shape) if axis and size < 0]


def _by_output(
    alone: Sequence[Tensors], padded: Sequence[Tensors]
) -> Iterator[list[tuple[NDArray[Any], NDArray[Any]]]]:
    for name in alone[0]:
        yield [(ours[name], theirs[name]) for ours, theirs in zip(alone, padded, strict=True)]


def _same(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], precision: str) -> bool:
    if any(alone.shape != padded.shape for alone, padded in pairs):
        return False
    one, other = (np.concatenate([array.reshape(-1) for array in arrays]) for arrays in zip(*pairs, strict=True))
    if one.dtype.kind != "f":
        return bool((one == other).all())
    tolerance = _TOLERANCE if precision == "fp32" else _LOSSY_TOLERANCE
    return bool(np.abs(one - other).max() <= tolerance * max(float(np.ptp(one)), 1e-9))

"""A variant as a worker serves it: its signature, its profile, and how it is loaded.

Loading blocks and is called in a thread. It computes the largest batch once and the smallest a few times before it
says that it is ready: the first run allocates, and on some runtimes compiles, what the profile did not count. What it
computes are inputs that were kept when the model was registered: made-up ones may be such as no model takes.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.artifacts import ArtifactStore
from registry.samples import Arrays, load_arrays, take_rows
from runtimes.catalog import find_runtime
from runtimes.composite import hold_artifacts
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import LoadOptions, Session, Tensors
from schemas.errors import InvalidRequest, OperatorError
from schemas.latency import LatencyModel
from schemas.length import UNKNOWN_LENGTHS, LengthModel
from schemas.rows.catalog import Architecture, Task, TensorSpec, Variant
from schemas.rows.processing import Processing
from schemas.tensors import BYTES, DTYPES, datatype_of
from store.catalog import Catalog

log = logging.getLogger(__name__)

_WARM_UP_RUNS = 3
_LOOPS = (b"Loop", b"TensorIterator", b"while_loop")
_LOOKED_AT_BYTES = 32 << 20
_WARM_UP_DIMENSION = 8
"""Length taken for a variable dimension while warming up."""


class ServableModel(msgspec.Struct, frozen=True):
    """A registered variant with what its computation needs."""

    variant: Variant
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    latency: LatencyModel
    memory_bytes: int
    """Bytes that loading it adds to the process, as profiled."""
    sample_rows: str = ""
    """SHA-256 of the file with inputs that it is known to compute; empty: none were kept."""
    processing: Processing | None = None
    """What makes its tensors of what clients send; None: they send its tensors."""
    lengths: LengthModel = UNKNOWN_LENGTHS
    """What inputs take longer because of their length."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores, if they have any."""
    threads: int = 1
    """Cores that a batch computes on, as profiled."""

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.variant.name


class LoadedModel(NamedTuple):
    """A model in memory, warmed up."""

    session: Session
    probe: Tensors
    """An input that it has computed."""
    resources: ExitStack
    """What is given back by closing this: the session, and the files that it was loaded from."""
    may_loop: bool = True
    """Whether an input, and not only its shape, may decide how long it takes: then it may take for ever."""


def find_model(catalog: Catalog, variant: str, max_batch: int, correction: float = 1.0) -> ServableModel:
    """The model of a variant, limited to `max_batch`, its latency as profiled times `correction`.

    Raises:
        OperatorError: it is not registered, or not ready.
    """
    row, profile = catalog.variants.get(variant), catalog.profiles.get(variant)
    task = catalog.tasks.get(row.task) if row else None
    architecture = catalog.architectures.get(row.architecture) if row else None
    if row is None or profile is None or task is None or architecture is None:
        raise OperatorError(f"{variant} is not registered and ready: see `infaas variants`")
    latency = LatencyModel(profile.latency, max(1, min(max_batch, row.max_batch)), correction)
    outputs = tuple(spec.name for spec in task.outputs)
    inputs, processing = _taken_inputs(task, architecture), architecture.processing
    if processing is not None and architecture.inputs:
        processing = replace(processing, tensors=architecture.inputs)
    return ServableModel(
        row, inputs, outputs, latency, profile.memory_bytes, architecture.sample_rows, processing,
        LengthModel(profile.lengths, latency), task.classes, profile.threads,
    )  # fmt: skip


def _taken_inputs(task: Task, architecture: Architecture) -> tuple[TensorSpec, ...]:
    """The task's inputs, narrowed to what the architecture takes of them."""
    own = {spec.name: spec for spec in architecture.inputs}
    return tuple(
        replace(spec, below=_least(spec.below, own[spec.name].below), longest=own[spec.name].longest)
        if spec.name in own
        else spec
        for spec in task.inputs
    )


def _least(one: int | None, other: int | None) -> int | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other


def load_session(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int = 1) -> LoadedModel:
    """Load a model, to compute so many batches at once, and warm it up; blocks.

    Raises:
        OperatorError: an artifact or the runtime is not here. Runtimes raise errors of their own, too.
    """
    variant, rows = model.variant, _warm_up_rows(model, artifacts)
    options = LoadOptions(precision=variant.precision, threads=threads, lanes=lanes, max_batch=variant.max_batch)
    with ExitStack() as resources:
        loops: list[Path] = []

        def hold(sha256: str) -> Path:
            path = resources.enter_context(artifacts.held(sha256))
            loops.extend([path] if _may_loop(path) else ())
            return path

        artifact = hold_artifacts(variant.runtime, variant.artifact, hold)
        session = find_runtime(variant.runtime).load(artifact, variant.hardware, options)
        resources.callback(session.close)
        if model.processing is not None:
            session = _processed(session, model, model.processing, hold)
        for batch in (variant.max_batch, *[1] * _WARM_UP_RUNS):
            session.infer(take_rows(rows, 0, batch))
        return LoadedModel(session, take_rows(rows, 0, 1), resources.pop_all(), bool(loops))


def _may_loop(artifact: Path) -> bool:
    """Whether a graph may have a loop, by the names of its operators; one that is large is not looked at."""
    if not artifact.is_file() or artifact.stat().st_size > _LOOKED_AT_BYTES:
        return True
    graph = artifact.read_bytes()
    return any(name in graph for name in _LOOPS)


def _processed(session: Session, model: ServableModel, processing: Processing, hold: Callable[[str], Path]) -> Session:
    processed = ProcessedSession(session, processing.with_files(lambda sha256: str(hold(sha256))))
    processed.mix_lengths(model.variant.mixes_lengths)
    return processed


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Mapping[str, NDArray[Any]]) -> int:
    """Check a request against the task's signature; returns the number of inputs it holds.

    Raises:
        InvalidRequest: they are not what the task's signature asks for.
    """
    if len(inputs) != len(specs) or any(spec.name not in inputs for spec in specs):
        wanted = ", ".join(spec.name for spec in specs)
        raise InvalidRequest(f"inputs must be exactly: {wanted}; got {', '.join(name[:40] for name in inputs)}")
    count = len(inputs[specs[0].name]) if inputs[specs[0].name].ndim else 0
    for spec in specs:
        _check_input(spec, inputs[spec.name], count)
    return count


def _check_input(spec: TensorSpec, array: NDArray[Any], count: int) -> None:
    if array.dtype != DTYPES[spec.datatype]:
        raise InvalidRequest(f"input {spec.name} must be {spec.datatype}, not {datatype_of(array)}")
    shape = array.shape
    fits = len(shape) == len(spec.shape) and all(w in (-1, n) for w, n in zip(spec.shape, shape, strict=True))
    if not fits or not array.size:
        raise InvalidRequest(
            f"input {spec.name} must have shape {list(spec.shape)} (-1: any length from 1), not {list(shape)}"
        )
    if spec.longest is not None:
        _check_length(spec, spec.longest, shape)
    if spec.below is not None and not 0 <= array.min() <= array.max() < spec.below:
        odd = array[(array < 0) | (array >= spec.below)].flat[0]
        raise InvalidRequest(f"input {spec.name} must hold numbers from 0 to {spec.below - 1}, not {odd}")
    if shape[0] != count:
        raise InvalidRequest(f"all inputs must hold as many elements: {spec.name} has {shape[0]}, others {count}")


def _check_length(spec: TensorSpec, longest: int, shape: tuple[int, ...]) -> None:
    found = max((size for size, wanted in zip(shape[1:], spec.shape[1:], strict=True) if wanted < 0), default=0)
    if found > longest:
        raise InvalidRequest(
            f"input {spec.name} has {found} values a row, and this model takes {longest} at most: shorten it"
        )


def _warm_up_rows(model: ServableModel, store: ArtifactStore) -> Arrays:
    if not model.sample_rows:
        return {spec.name: _blank(spec) for spec in model.inputs}
    with store.held(model.sample_rows) as rows:
        return load_arrays(rows)


def _blank(spec: TensorSpec) -> NDArray[Any]:
    shape = [1, *(_WARM_UP_DIMENSION if length < 0 else length for length in spec.shape[1:])]
    dtype = DTYPES[spec.datatype]
    if dtype is BYTES:
        return np.full(shape, b"", BYTES)
    return np.zeros(shape, dtype) if spec.below == 1 else np.ones(shape, dtype)

"""A variant as served by a worker: its signature, its profile, and its loading.

Loading blocks and runs in a thread. It computes the largest batch once and the smallest a few times before the model is
ready, because the first run allocates, and on some runtimes compiles, which the profile does not include. The warm-up
uses inputs stored at registration, because a model may reject made-up ones.
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
from registry.pipeline.generation_timing import make_token
from registry.samples import Arrays, load_arrays, take_rows
from runtimes.catalog import find_runtime
from runtimes.composite import hold_artifacts
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import LoadOptions, Session, Tensors
from schemas.catalog import Catalog
from schemas.errors import InvalidRequest, OperatorError
from schemas.generation_model import GenerationModel
from schemas.latency import UNKNOWN_LENGTHS, LatencyModel, LengthModel
from schemas.rows.catalog import Architecture, Processing, Task, TensorSpec, Variant
from schemas.tensors import BYTES, DTYPES, datatype_of

log = logging.getLogger(__name__)

_WARM_UP_RUNS = 3
_LOOPS = (b"Loop", b"TensorIterator", b"while_loop")
_LOOKED_AT_BYTES = 32 << 20
_WARM_UP_DIMENSION = 8
"""Length of variable dimensions in made-up inputs for the warm-up."""


class ServableModel(msgspec.Struct, frozen=True):
    """Registered variant with the data needed to compute it."""

    variant: Variant
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    latency: LatencyModel
    memory_bytes: int
    """Profiled bytes that loading it adds to the process."""
    sample_rows: str = ""
    """SHA-256 of the file with inputs that it can compute; empty: none were stored."""
    processing: Processing | None = None
    """Processing of the clients' inputs into its tensors; None: clients send the tensors."""
    lengths: LengthModel = UNKNOWN_LENGTHS
    """Model of the extra time that inputs take because of their length."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores; empty if it has none."""
    threads: int = 1
    """Cores that a batch computes on, as profiled."""
    generation: GenerationModel | None = None
    """Prediction of the times of a generative variant's answers; None: it is not generative."""

    @property
    def generation_model(self) -> GenerationModel:
        """Prediction of the times of its answers; only of a generative variant."""
        assert self.generation is not None, f"{self.name} is generative"
        return self.generation

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.variant.name


class LoadedModel(NamedTuple):
    """Model in memory, warmed up."""

    session: Session
    probe: Tensors
    """Input that it has computed successfully."""
    resources: ExitStack
    """Session and model files, released when this is closed."""
    may_loop: bool = True
    """True if an input's values, not only its shape, may decide the compute time, so that it may never end."""


def find_model(catalog: Catalog, variant: str, max_batch: int, correction: float = 1.0) -> ServableModel:
    """Return the model of a variant, limited to `max_batch`, with its profiled latency times `correction`.

    A generative variant is not limited.

    Raises:
        OperatorError: the variant is not registered, or not ready.
    """
    row, profile = catalog.variants.get(variant), catalog.profiles.get(variant)
    task = catalog.tasks.get(row.task) if row else None
    architecture = catalog.architectures.get(row.architecture) if row else None
    if row is None or profile is None or task is None or architecture is None:
        raise OperatorError(f"{variant} is not registered and ready: see `infaas variants`")
    # The limit of an instance bounds the time of a batch. Answers at once are bounded by their needs instead.
    generation = None if profile.generation is None else GenerationModel(profile.generation, correction)
    limit = row.max_batch if generation is not None else max(1, min(max_batch, row.max_batch))
    latency = LatencyModel(profile.latency, limit, correction)
    inputs, processing = _taken_inputs(task, architecture), architecture.processing
    if processing is not None and architecture.inputs:
        processing = replace(processing, tensors=architecture.inputs)
    return ServableModel(
        row,
        inputs,
        task.outputs,
        latency,
        profile.memory_bytes,
        architecture.sample_rows,
        processing,
        LengthModel(profile.lengths, latency),
        task.classes,
        profile.threads,
        generation,
    )


def _taken_inputs(task: Task, architecture: Architecture) -> tuple[TensorSpec, ...]:
    """Return the task's inputs, narrowed to the values and lengths that the architecture accepts."""
    own = {spec.name: spec for spec in architecture.inputs}
    return tuple(
        replace(spec, below=_least(spec.below, own[spec.name].below), longest=own[spec.name].longest)
        if spec.name in own
        else spec
        for spec in task.inputs
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def load_session(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int = 1) -> LoadedModel:
    """Load a model that computes `lanes` batches at once, and warm it up; blocks.

    Raises:
        OperatorError: an artifact or the runtime is missing. Runtimes raise errors of their own as well.
    """
    variant, rows = model.variant, _warm_up_rows(model, artifacts)
    options = LoadOptions(precision=variant.precision, threads=threads, lanes=lanes, max_batch=variant.max_batch)
    if model.generation is not None:
        options = replace(options, context_tokens=model.generation.profile.context_tokens)
    with ExitStack() as resources:
        loops: list[Path] = []

        def hold(sha256: str) -> Path:
            path = resources.enter_context(artifacts.held(sha256))
            loops.extend([path] if _may_loop(path) else ())
            return path

        artifact = hold_artifacts(variant.runtime, variant.artifact, hold)
        session = find_runtime(variant.runtime).load(artifact, variant.hardware, options)
        resources.callback(session.close)
        if model.generation is not None:
            make_token(session)
            return LoadedModel(session, {}, resources.pop_all())
        if model.processing is not None:
            session = _processed(session, model, model.processing, hold)
        for batch in (variant.max_batch, *[1] * _WARM_UP_RUNS):
            session.infer(take_rows(rows, 0, batch))
        return LoadedModel(session, take_rows(rows, 0, 1), resources.pop_all(), bool(loops))


def _may_loop(artifact: Path) -> bool:
    """Return true if a graph may have a loop, judged by its operator names; large graphs are not inspected."""
    if not artifact.is_file() or artifact.stat().st_size > _LOOKED_AT_BYTES:
        return True
    graph = artifact.read_bytes()
    return any(name in graph for name in _LOOPS)


def _processed(session: Session, model: ServableModel, processing: Processing, hold: Callable[[str], Path]) -> Session:
    processed = ProcessedSession(session, processing.with_files(lambda sha256: str(hold(sha256))))
    processed.mix_lengths(model.variant.mixes_lengths)
    return processed


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Mapping[str, NDArray[Any]]) -> int:
    """Check a request against the task's signature. Returns the number of inputs in it.

    Raises:
        InvalidRequest: the inputs do not fit the signature.
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
        raise InvalidRequest(f"all inputs must have the same batch size: {spec.name} has {shape[0]}, others {count}")


def _check_length(spec: TensorSpec, longest: int, shape: tuple[int, ...]) -> None:
    found = max((size for size, wanted in zip(shape[1:], spec.shape[1:], strict=True) if wanted < 0), default=0)
    if found > longest:
        raise InvalidRequest(
            f"input {spec.name} has {found} values a row, but this model takes at most {longest}: shorten it"
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

"""Composites: variants that are computed as one, and the JSON documents that are their artifacts.

* Cascade: a cheap variant answers the inputs it is confident of, and a better one answers the rest. The first stage
  computes the whole batch. Its rows of low confidence form a smaller batch for the next stage. So the time of a batch
  depends on its inputs: a cascade is profiled on real rows, its cost is the mean latency, and its promise is the p99.
  All outputs of a row come from the same stage. The confidence is the model's own estimate, computed from its outputs.
  Calibration on labelled rows finds the share of right answers at each confidence (`registry.composites.calibration`).
* Chain: the outputs of one variant are the inputs of the next. The chain has one latency, one deadline and one
  accuracy, all measured for the whole chain as for any variant.

All stages are in the memory of one worker. A document names its stages by the SHA-256 of their artifacts, which are in
the same folder. So a composite is loaded, computed, measured and placed like any other variant. It stays valid when the
variant of a stage is unregistered, or is registered again with other content.
"""

import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import Availability, GenerativeSession, LoadOptions, Runtime, Session, Tensors
from schemas.errors import OperatorError


class ConfidenceMeasure(StrEnum):
    """Computation of the confidence from an output."""

    SOFTMAX = "softmax"
    """The output holds logits: the probability of the most likely class."""
    PROBABILITY = "probability"
    """The output holds probabilities: the largest one."""
    VALUE = "value"
    """The output is the confidence: one number per row."""
    LOGPROB = "logprob"
    """The output is the mean log-probability of the tokens of a text: the probability that it stands for."""


def confidence_of(output: NDArray[Any], measure: ConfidenceMeasure) -> NDArray[np.float64]:
    """Return the confidence of each row; of a row with several answers, e.g. one per word, the lowest one.

    A single score belongs to one of two classes: it is a probability, or a logit.
    """
    rows = len(output)
    if measure is ConfidenceMeasure.VALUE:
        return output.reshape(rows, -1).min(axis=1).astype(np.float64)
    if measure is ConfidenceMeasure.LOGPROB:
        return np.exp(output.reshape(rows).astype(np.float64))
    scores = output.reshape(rows, -1, output.shape[-1] if output.ndim > 1 else 1).astype(np.float64)
    likeliest = _softmax_max(scores) if measure is ConfidenceMeasure.SOFTMAX else _probability_max(scores)
    return likeliest.min(axis=1)


def unsure_rows(output: NDArray[Any], measure: ConfidenceMeasure, threshold: float) -> NDArray[np.intp]:
    """Return the indices of the rows whose confidence is below the threshold or NaN."""
    return np.flatnonzero(~(confidence_of(output, measure) >= threshold))


def guess_measure(output: NDArray[Any]) -> ConfidenceMeasure:
    """Guess the measure from a model's scores: probabilities are in 0..1 and add up to 1."""
    sums = output.sum(axis=-1) if output.ndim > 1 and output.shape[-1] > 1 else np.ones(len(output))
    is_probability = bool(np.all(output >= 0) and np.all(output <= 1) and np.allclose(sums, 1.0, atol=1e-2))
    return ConfidenceMeasure.PROBABILITY if is_probability else ConfidenceMeasure.SOFTMAX


def _softmax_max(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[-1] == 1:
        return 1.0 / (1.0 + np.exp(-np.abs(logits[..., 0])))
    return 1.0 / np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)


def _probability_max(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if probabilities.shape[-1] == 1:
        return np.maximum(probabilities, 1.0 - probabilities)[..., 0]
    return probabilities.max(axis=-1)


CASCADE: Final = "cascade"
CHAIN: Final = "chain"


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the variants that make up a composite."""

    variant: str
    """Name of the variant, for display; it may have been unregistered."""
    runtime: str
    precision: str
    artifact: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of its file."""


Stages = Annotated[tuple[Stage, ...], msgspec.Meta(min_length=2)]


class CascadeDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=CASCADE):
    """Artifact of a cascade."""

    stages: Stages
    """Stages, the cheapest first; each gets the rows of low confidence of the previous one."""
    thresholds: tuple[float, ...]
    """Least confidence at which a stage's answer is final: one value for each stage but the last."""
    output: str
    """Output that gives the confidence."""
    measure: ConfidenceMeasure


class Feed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Source of an input of a stage."""

    output: str
    """Output of the previous stage."""
    below: int | None = None
    """Upper bound, exclusive, of values that are row numbers of a table in this stage."""


class ChainDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=CHAIN):
    """Artifact of a chain."""

    stages: Stages
    feeds: tuple[dict[str, Feed], ...]
    """Sources of the inputs, by name, for each stage but the first."""


CompositeDocument = CascadeDocument | ChainDocument
D = TypeVar("D", bound=CompositeDocument)


def read_document(artifact: Path) -> CompositeDocument:
    """Read the artifact of a composite; blocks.

    Raises:
        OperatorError: it cannot be read, or this version does not know its kind.
    """
    try:
        document = msgspec.json.decode(artifact.read_bytes(), type=CompositeDocument)
    except OSError as error:
        raise OperatorError(f"cannot read {artifact}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise OperatorError(f"{artifact.name} is not a cascade or chain known to this version: {error}") from error
    links = document.thresholds if isinstance(document, CascadeDocument) else document.feeds
    if len(links) != len(document.stages) - 1:
        raise OperatorError(f"{artifact.name} joins {len(document.stages)} stages by {len(links)} links")
    return document


def runtimes_within(runtime: str, artifact: Path) -> tuple[str, ...]:
    """Return the names of the runtimes that compute an artifact: its own, and for a composite its stages'; blocks."""
    if runtime not in (CASCADE, CHAIN):
        return (runtime,)
    stages = read_document(artifact).stages
    return (runtime, *(name for stage in stages for name in runtimes_within(stage.runtime, _beside(artifact, stage))))


def hold_artifacts(runtime: str, sha256: str, hold: Callable[[str], Path]) -> Path:
    """Fetch an artifact, and for a composite the artifacts of its stages, into one folder; blocks.

    `hold` fetches one artifact and returns its file, in the same folder for all; its errors are passed on.

    Returns:
        File of the artifact.
    """
    file = hold(sha256)
    if runtime in (CASCADE, CHAIN):
        for stage in read_document(file).stages:
            hold_artifacts(stage.runtime, stage.artifact, hold)
    return file


class CompositeRuntime(Generic[D]):
    """Runtime that loads each stage of a document with the matching one of `runtimes`, and joins the sessions."""

    concurrent = True

    def __init__(
        self, name: str, kind: type[D], join: Callable[[D, tuple[Session, ...]], Session], runtimes: Sequence[Runtime]
    ) -> None:
        self.name = name
        self.hardware = tuple(dict.fromkeys(hardware for runtime in runtimes for hardware in runtime.hardware))
        self._kind = kind
        self._join = join
        self._runtimes = {runtime.name: runtime for runtime in runtimes}

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if any stage runtime can run; `load` finds out if all stages can."""
        found = [runtime.availability(hardware) for runtime in self._runtimes.values()]
        return next((one for one in found if one.available), found[0])

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load all stages of the document, or none; blocks.

        Raises:
            OperatorError: the document, a stage's artifact or its runtime is missing. Runtimes raise errors of their
                own as well.
        """
        document, loaded = read_document(artifact), list[Session]()
        if not isinstance(document, self._kind):
            raise OperatorError(f"{artifact.name} is not a {self.name}")
        try:
            for stage in document.stages:
                loaded.append(self._load_stage(stage, _beside(artifact, stage), hardware, options))
        except BaseException:
            for session in loaded:
                session.close()
            raise
        return self._join(document, tuple(loaded))

    def _load_stage(self, stage: Stage, file: Path, hardware: str, options: LoadOptions) -> Session:
        runtime = self._runtimes.get(stage.runtime)
        if runtime is None:
            known = ", ".join(self._runtimes)
            raise OperatorError(f"stage {stage.variant} needs the runtime {stage.runtime}; there are {known}")
        if not file.is_file():
            raise OperatorError(f"the artifact of stage {stage.variant} is missing: {file.name}")
        session = runtime.load(file, hardware, msgspec.structs.replace(options, precision=stage.precision))
        is_shared = runtime.concurrent or isinstance(session, GenerativeSession)
        return session if is_shared else _OneAtATime(session)


def _beside(artifact: Path, stage: Stage) -> Path:
    return artifact.parent / stage.artifact


class _OneAtATime:
    """Session that only one thread may use at a time, within a composite that several threads share."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        with self._lock:
            return self._session.infer(inputs)

    def close(self) -> None:
        self._session.close()


Outputs = dict[str, NDArray[np.generic]]


class _Stages:
    def __init__(self, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages

    def close(self) -> None:
        """Free all stages; call once no thread computes with them."""
        for stage in (self._first, *self._others):
            stage.close()


class CascadeSession(_Stages):
    """Loaded cascade; several threads may call `infer` at once."""

    def __init__(self, document: CascadeDocument, stages: Sequence[Session]) -> None:
        super().__init__(stages)
        self._thresholds = document.thresholds
        self._output = document.output
        self._measure = document.measure

    def infer(self, inputs: Tensors) -> Outputs:
        """Compute one batch; each row passes through the stages until one is confident, or the last has answered."""
        answers = merged = self._first.infer(inputs)
        rows = np.arange(len(answers[self._output]))
        for stage, threshold in zip(self._others, self._thresholds, strict=True):
            rows = rows[unsure_rows(answers[self._output], self._measure, threshold)]
            if not len(rows):
                break
            answers = stage.infer({name: array[rows] for name, array in inputs.items()})
            merged = with_rows(merged, rows, answers)
        return merged


def with_rows(outputs: Outputs, rows: NDArray[np.intp], answers: Outputs) -> Outputs:
    """Return the outputs with some rows replaced by `answers`; the arguments are not changed.

    An output in only one of the two, e.g. a runtime's alternative name, is dropped: no task promises it.
    """
    return {name: _with_rows(array, rows, answers[name]) for name, array in outputs.items() if name in answers}


def _with_rows(array: NDArray[Any], rows: NDArray[np.intp], answers: NDArray[Any]) -> NDArray[Any]:
    if len(rows) == len(array):
        return answers
    whole = array.copy()
    whole[rows] = answers
    return whole


class ChainSession(_Stages):
    """Loaded chain; several threads may call `infer` at once."""

    def __init__(self, document: ChainDocument, stages: Sequence[Session]) -> None:
        super().__init__(stages)
        self._feeds = document.feeds

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch by all stages. Returns the outputs of the last stage.

        Raises:
            ValueError: a stage returned row numbers that the next stage's table lacks. Stages raise errors of their own
                as well.
        """
        outputs = self._first.infer(inputs)
        for stage, feeds in zip(self._others, self._feeds, strict=True):
            outputs = stage.infer({name: _fed(name, feed, outputs[feed.output]) for name, feed in feeds.items()})
        return outputs


def _fed(name: str, feed: Feed, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array after a range check: a table look-up in a stage does not check its row numbers."""
    if feed.below is not None and array.size and not 0 <= array.min() <= array.max() < feed.below:
        raise ValueError(f"input {name} takes numbers from 0 to {feed.below - 1}, but got up to {array.max()}")
    return array

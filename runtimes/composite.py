"""Composites: variants that are computed as one, and the JSON documents that are their artifacts.

A document names its stages by the SHA-256 of their artifacts, which are in the same folder. So a composite is loaded,
computed, measured and placed like any other variant. It stays valid when the variant of a stage is unregistered, or is
registered again with other content.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.confidence import ConfidenceMeasure
from runtimes.protocol import Availability, LoadOptions, Runtime, Session, Tensors
from schemas.errors import OperatorError

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
        return session if runtime.concurrent else _OneAtATime(session)


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

"""Composites: variants that are computed as one, and the small JSON documents that are their artifacts.

A document names its stages by the SHA-256 of their artifacts, which lie in the same folder as the document. So a
composite loads, computes, is measured and is placed as any other variant; and it goes on when the variant that a stage
was taken from is no longer registered, or is registered anew with other content.
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
    """Name of the variant, for people; it may have gone since."""
    runtime: str
    precision: str
    artifact: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of its file."""


Stages = Annotated[tuple[Stage, ...], msgspec.Meta(min_length=2)]


class CascadeDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=CASCADE):
    """The artifact of a cascade."""

    stages: Stages
    """The cheapest first; each gets the rows that the one before was not sure of."""
    thresholds: tuple[float, ...]
    """Least confidence at which a stage's answer stands: one for each stage but the last."""
    output: str
    """Output that the confidence is taken from."""
    measure: ConfidenceMeasure


class Feed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an input of a stage is fed with."""

    output: str
    """Output of the stage before."""
    below: int | None = None
    """Bound of numbers that are rows of a table in this stage."""


class ChainDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=CHAIN):
    """The artifact of a chain."""

    stages: Stages
    feeds: tuple[dict[str, Feed], ...]
    """For each stage but the first, what each of its inputs is fed with."""


CompositeDocument = CascadeDocument | ChainDocument
D = TypeVar("D", bound=CompositeDocument)


def read_document(artifact: Path) -> CompositeDocument:
    """Read the artifact of a composite; blocks.

    Raises:
        OperatorError: it cannot be read, or is none that this version knows.
    """
    try:
        document = msgspec.json.decode(artifact.read_bytes(), type=CompositeDocument)
    except OSError as error:
        raise OperatorError(f"cannot read {artifact}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise OperatorError(f"{artifact.name} is no cascade or chain that this version knows: {error}") from error
    links = document.thresholds if isinstance(document, CascadeDocument) else document.feeds
    if len(links) != len(document.stages) - 1:
        raise OperatorError(f"{artifact.name} joins {len(document.stages)} stages by {len(links)} links")
    return document


def runtimes_within(runtime: str, artifact: Path) -> tuple[str, ...]:
    """Names of the runtimes that compute an artifact: its own, and of a composite those of its stages; blocks."""
    if runtime not in (CASCADE, CHAIN):
        return (runtime,)
    stages = read_document(artifact).stages
    return (runtime, *(name for stage in stages for name in runtimes_within(stage.runtime, _beside(artifact, stage))))


def hold_artifacts(runtime: str, sha256: str, hold: Callable[[str], Path]) -> Path:
    """Have an artifact here, and of a composite those of its stages beside it; returns its file; blocks.

    `hold` has one here and returns its file, all in one folder; its errors are passed on.
    """
    file = hold(sha256)
    if runtime in (CASCADE, CHAIN):
        for stage in read_document(file).stages:
            hold_artifacts(stage.runtime, stage.artifact, hold)
    return file


class CompositeRuntime(Generic[D]):
    """Runtime that loads every stage of a document by the one of `runtimes` that it needs, and joins them."""

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
        """Whether any stage could run; whether all do is seen when they are loaded."""
        found = [runtime.availability(hardware) for runtime in self._runtimes.values()]
        return next((one for one in found if one.available), found[0])

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load all stages of the document, or none; blocks.

        Raises:
            OperatorError: the document, a stage's artifact or its runtime is not here. Runtimes raise errors of their
                own, too.
        """
        document, loaded = read_document(artifact), list[Session]()
        if not isinstance(document, self._kind):
            raise OperatorError(f"{artifact.name} is no {self.name}")
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
            raise OperatorError(f"the artifact of stage {stage.variant} is not here: {file.name}")
        session = runtime.load(file, hardware, msgspec.structs.replace(options, precision=stage.precision))
        return session if runtime.concurrent else _OneAtATime(session)


def _beside(artifact: Path, stage: Stage) -> Path:
    return artifact.parent / stage.artifact


class _OneAtATime:
    """A session that only one thread may compute with, among stages that are shared by several."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        with self._lock:
            return self._session.infer(inputs)

    def close(self) -> None:
        self._session.close()

"""What is registered through the admin API, and how far a registration is: plain data.

    waiting -> running -> done
                       -> failed     (with what was wrong, in words)
    either may be cancelled instead; what was made until then stays, and registering the same again goes on from there

Files are named, never sent along: each was uploaded before, and is known by the SHA-256 of its content, or lies in the
store of artifacts, at a URL.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, PARTITIONS, THREADS
from schemas.errors import InvalidRequest
from schemas.hardware import Hardware
from schemas.rows.catalog import Profile, Variant
from schemas.rows.processing import Processing, Tokenise, TopClasses

SHA256: Final = "[0-9a-f]{64}"
_SHA256: Final = re.compile(SHA256)
_FILE_NAME: Final = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,199}")
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Confidence = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1024)]
_Few = msgspec.Meta(max_length=100)


class IfNoWorker(StrEnum):
    """What to do for a hardware type of which there is no worker."""

    HERE = "here"
    """Use the device of the machine that registers."""
    WAIT = "wait"
    SKIP = "skip"


class RegistrationState(StrEnum):
    """How far a registration has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class GivenFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of a registration: one that was uploaded, or one at a URL of the store of artifacts."""

    name: str
    """What it is called, e.g. `model.onnx`: models name files beside them, and the ending tells what data is."""
    upload: str = ""
    """SHA-256 of what was uploaded."""
    url: str = ""
    folder: bool = False
    """Whether it is a folder, as an uncompressed tar."""

    def check(self) -> None:
        """Raise `InvalidRequest` that says what is wrong with it, without a look at it."""
        if not _FILE_NAME.fullmatch(self.name):
            raise InvalidRequest(f"a file is called {self.name[:80]!r}: give a name without folders or a leading dot")
        if bool(self.upload) == bool(self.url):
            raise InvalidRequest(f"{self.name}: give either the SHA-256 of an upload, or a url")
        if self.upload and not _SHA256.fullmatch(self.upload):
            raise InvalidRequest(f"{self.name}: an upload is named by its SHA-256, 64 of 0-9 and a-f")


class ModelToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to register, as `infaas register` takes it."""

    name: str
    task: str
    """Created with the model's signature if it does not exist."""
    file: GivenFile
    beside: Annotated[tuple[GivenFile, ...], msgspec.Meta(max_length=1000)] = ()
    """Files that lie beside the model's, such as external weights."""
    validation: GivenFile | None = None
    calibration: GivenFile | None = None
    accuracy: Share | None = None
    measure: str | None = None
    classes: tuple[str, ...] = ()
    output: str | None = None
    batch_axes: Annotated[tuple[str, ...], _Few] = ()
    processing: Processing | None = None
    """Its files are named by the SHA-256 of uploads."""
    max_batch: Positive = BATCH_LIMIT
    partitions: Positive = PARTITIONS
    threads: Positive = THREADS
    variants: Annotated[tuple[str, ...], _Few] = ()
    max_accuracy_loss: Share | None = None
    cores: Annotated[tuple[Positive, ...], _Few] = ()
    hardware: Annotated[tuple[Hardware, ...], msgspec.Meta(min_length=1, max_length=10)] = (Hardware.CPU,)
    again: bool = False
    hold: bool = False
    access: Access | None = None
    """Whose a new model is, and who may use it. Of who is no administrator always their tenant's, else private."""
    if_no_worker: IfNoWorker = IfNoWorker.HERE


class CascadeToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cascade to register, as `infaas cascade` takes it; with no stages, those that beat every single variant."""

    task: str
    first: str | None = None
    """The variant that answers what it is sure of."""
    then: str | None = None
    """The variant that answers the rest."""
    validation: GivenFile
    """`.npz` with an array per input, and `label`."""
    calibration: GivenFile | None = None
    """The file that the stages were calibrated with, if there was one."""
    name: str | None = None
    """Name of the model; by default made of the stages'."""
    thresholds: Annotated[tuple[Confidence, ...], _Few] = ()
    min_accuracies: Annotated[tuple[Share, ...], _Few] = ()
    output: str | None = None
    confidence: str | None = None
    again: bool = False
    access: Access | None = None
    """As of a model; at most those may use it who may use all its stages."""
    if_no_worker: IfNoWorker = IfNoWorker.HERE


class ChainToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain to register, as `infaas chain` takes it."""

    name: str
    """Name of the task that it becomes."""
    tasks: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=100)]
    feeds: Annotated[dict[str, dict[str, str]], _Few] = {}
    """By task, the output of the task before that an input of it is, where the names do not say."""
    through: Annotated[tuple[tuple[str, ...], ...], _Few] = ()
    validation: GivenFile | None = None
    accuracy: Share | None = None
    output: str | None = None
    hardware: Hardware = Hardware.CPU
    again: bool = False
    access: Access | None = None
    """As of a model; at most those may use it who may use all its stages."""
    if_no_worker: IfNoWorker = IfNoWorker.HERE


ToRegister: TypeAlias = ModelToRegister | CascadeToRegister | ChainToRegister
KINDS: Final[Mapping[str, type[ToRegister]]] = {
    "model": ModelToRegister,
    "cascade": CascadeToRegister,
    "chain": ChainToRegister,
}
"""What a registration of each kind is asked for by."""


class CascadePoint(msgspec.Struct, frozen=True):
    """What one threshold gives, on the rows that calibrate."""

    threshold: float
    escalated: float
    """Share of the rows that the first stage is not sure of, 0..1."""
    accuracy: float


class MadeVariant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A variant that was registered, refused ones with the reason."""

    variant: Variant
    profile: Profile | None = None
    """What was measured of it; none of one that was refused."""
    calibrated: CascadePoint | None = None
    """Of a cascade: what its threshold gave on the rows that calibrated it."""


class ListedRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """A registration as it is listed: how far it is, without all that was noted and made. Times are the database's."""

    id: str
    kind: str
    """`model`, `cascade` or `chain`."""
    name: str
    """Name of what is registered."""
    tenant: str
    """Tenant that registers it; empty: an administrator's."""
    asked_by: str
    state: RegistrationState
    steps_done: int = 0
    steps_total: int = 0
    doing: str = ""
    """What goes on now."""
    error: str = ""
    """Why it failed."""
    error_code: str = ""
    """Of the error table; empty: it is not what was asked for that is wrong, but how something is set up."""
    attempts: int = 0
    """Times it was begun; more than one where what did it ended in the midst, and did not give it back in order."""
    created_at: datetime
    started_at: Annotated[datetime | None, msgspec.Meta(description="None while it waits.")] = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.finished_at is not None


class RegistrationStatus(ListedRegistration, frozen=True, kw_only=True):
    """A registration, how far it is, and what came of it."""

    notes: tuple[str, ...] = ()
    made: tuple[MadeVariant, ...] = ()


def files_of(request: ToRegister) -> Iterator[GivenFile]:
    """All files that a registration names, those of its processing as uploads without a name of theirs."""
    if isinstance(request, ModelToRegister):
        yield from (request.file, *request.beside)
        for sha256 in processing_files(request.processing):
            yield GivenFile(name="processing", upload=sha256)
    if request.validation is not None:
        yield request.validation
    if not isinstance(request, ChainToRegister) and request.calibration is not None:
        yield request.calibration


def kind_of_request(request: ToRegister) -> str:
    """The kind of what is registered, as `KINDS` names it."""
    return next(kind for kind, asked in KINDS.items() if type(request) is asked)


def processing_files(processing: Processing | None) -> list[str]:
    """The names of the files that processing needs."""
    steps = (processing.before, *processing.after) if processing is not None else ()
    named = [step.tokenizer for step in steps if isinstance(step, Tokenise)]
    return named + [step.labels for step in steps if isinstance(step, TopClasses) and step.labels]

"""Registration requests of the admin API, and their states: plain data.

    waiting -> running -> done
                       -> failed     (with the reason as text)
    a waiting or running registration may be cancelled; its variants are kept, and a repeated request continues

Requests name files and do not contain them. A file was uploaded before and is identified by the SHA-256 of its content,
or it is at a URL of the artifact store.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, CONTEXT_TOKENS, PARTITIONS, SEQUENCES, THREADS
from schemas.errors import InvalidRequest
from schemas.hardware import Hardware
from schemas.rows.catalog import Processing, Profile, Tokenise, TopClasses, Variant

SHA256: Final = "[0-9a-f]{64}"
_SHA256: Final = re.compile(SHA256)
_FILE_NAME: Final = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,199}")
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Confidence = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1024)]
ContextTokens = Annotated[int, msgspec.Meta(ge=16, le=1 << 20)]
_Few = msgspec.Meta(max_length=100)


class MissingWorkerPolicy(StrEnum):
    """Action for a hardware type without a worker."""

    HERE = "here"
    """Use the device of the machine that executes the registration."""
    WAIT = "wait"
    SKIP = "skip"


class RegistrationState(StrEnum):
    """State of a registration."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FileRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """File of a registration: an upload, or a URL of the artifact store."""

    name: str
    """File name, e.g. `model.onnx`. A model refers to its companion files by name, and the suffix gives the data
    format."""
    upload: str = ""
    """SHA-256 of the upload."""
    url: str = ""
    folder: bool = False
    """True if it is a folder, packed as an uncompressed tar."""

    def check(self) -> None:
        """Check the fields without reading the file.

        Raises:
            InvalidRequest: a field is wrong; the message names it.
        """
        if not _FILE_NAME.fullmatch(self.name):
            raise InvalidRequest(f"invalid file name {self.name[:80]!r}: give a name without folders or a leading dot")
        if bool(self.upload) == bool(self.url):
            raise InvalidRequest(f"{self.name}: give either the SHA-256 of an upload, or a url")
        if self.upload and not _SHA256.fullmatch(self.upload):
            raise InvalidRequest(f"{self.name}: an upload is identified by its SHA-256, 64 of 0-9 and a-f")


class ModelToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request to register a model; the fields are the options of `infaas register`."""

    name: str
    task: str
    """Task of the model. A task that does not exist is created with the model's signature."""
    file: FileRef
    beside: Annotated[tuple[FileRef, ...], msgspec.Meta(max_length=1000)] = ()
    """Companion files of the model, such as external weights."""
    validation: FileRef | None = None
    calibration: FileRef | None = None
    accuracy: Share | None = None
    measure: str | None = None
    classes: tuple[str, ...] = ()
    output: str | None = None
    batch_axes: Annotated[tuple[str, ...], _Few] = ()
    processing: Processing | None = None
    """Its files are named by the SHA-256 of uploads."""
    max_batch: Positive = BATCH_LIMIT
    sequences: Positive = SEQUENCES
    context_tokens: ContextTokens = CONTEXT_TOKENS
    partitions: Positive = PARTITIONS
    threads: Positive = THREADS
    variants: Annotated[tuple[str, ...], _Few] = ()
    max_accuracy_loss: Share | None = None
    cores: Annotated[tuple[Positive, ...], _Few] = ()
    hardware: Annotated[tuple[Hardware, ...], msgspec.Meta(min_length=1, max_length=10)] = (Hardware.CPU,)
    again: bool = False
    hold: bool = False
    access: Access | None = None
    """Owner and visibility of a new model. Without the role admin, the owner is always the caller's tenant, and null
    means private."""
    if_no_worker: MissingWorkerPolicy = MissingWorkerPolicy.HERE


class CascadeToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request to register a cascade; the fields are the options of `infaas cascade`.

    Without stages, the registrar searches for cascades that are better than every single variant.
    """

    task: str
    first: str | None = None
    """Variant that answers if its confidence reaches the threshold."""
    then: str | None = None
    """Variant that answers all other queries."""
    validation: FileRef
    """`.npz` file with one array per input, and `label`."""
    calibration: FileRef | None = None
    """File with which the stages were calibrated, if there was one."""
    name: str | None = None
    """Name of the model; null: it is made from the names of the stages."""
    thresholds: Annotated[tuple[Confidence, ...], _Few] = ()
    min_accuracies: Annotated[tuple[Share, ...], _Few] = ()
    output: str | None = None
    confidence: str | None = None
    again: bool = False
    access: Access | None = None
    """Owner and visibility, as for a model; visibility is limited to tenants that may use all stages."""
    if_no_worker: MissingWorkerPolicy = MissingWorkerPolicy.HERE


class ChainToRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request to register a chain; the fields are the options of `infaas chain`."""

    name: str
    """Name of the task that the chain becomes."""
    tasks: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=100)]
    feeds: Annotated[dict[str, dict[str, str]], _Few] = {}
    """By task and input: the output of the previous task that the input receives, if their names do not match."""
    through: Annotated[tuple[tuple[str, ...], ...], _Few] = ()
    validation: FileRef | None = None
    accuracy: Share | None = None
    output: str | None = None
    hardware: Hardware = Hardware.CPU
    again: bool = False
    access: Access | None = None
    """Owner and visibility, as for a model; visibility is limited to tenants that may use all stages."""
    if_no_worker: MissingWorkerPolicy = MissingWorkerPolicy.HERE


ToRegister: TypeAlias = ModelToRegister | CascadeToRegister | ChainToRegister
KINDS: Final[Mapping[str, type[ToRegister]]] = {
    "model": ModelToRegister,
    "cascade": CascadeToRegister,
    "chain": ChainToRegister,
}
"""Type of the request for each kind of registration."""


class CascadePoint(msgspec.Struct, frozen=True):
    """Effect of one threshold on the calibration rows."""

    threshold: float
    escalated: float
    """Share of the rows that the first stage passes on to the second, 0..1."""
    accuracy: float


class RegisteredVariant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Registered variant, or refused variant with the reason."""

    variant: Variant
    profile: Profile | None = None
    """Profile of the variant; null if it was refused."""
    calibrated: CascadePoint | None = None
    """For a cascade: the effect of its threshold on the calibration rows."""


class ListedRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """Registration in a list, without its notes and variants. Times are those of the database's clock."""

    id: str
    kind: str
    """`model`, `cascade` or `chain`."""
    name: str
    """Name of the registered model, cascade or chain."""
    tenant: str
    """Tenant that registers it; empty: an administrator."""
    asked_by: str
    state: RegistrationState
    steps_done: int = 0
    steps_total: int = 0
    doing: str = ""
    """Present step."""
    error: str = ""
    """Reason of the failure."""
    error_code: str = ""
    """Code of the error table; empty: the request was valid, but the configuration of the system is wrong."""
    attempts: int = 0
    """Number of attempts; more than one if a registrar process ended without finishing or releasing the
    registration."""
    created_at: datetime
    started_at: Annotated[datetime | None, msgspec.Meta(description="None while it waits.")] = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """True if the registration has ended."""
        return self.finished_at is not None


class RegistrationStatus(ListedRegistration, frozen=True, kw_only=True):
    """Registration with its state and results."""

    notes: tuple[str, ...] = ()
    made: tuple[RegisteredVariant, ...] = ()


def files_of(request: ToRegister) -> Iterator[FileRef]:
    """Yield all files that a registration names.

    Files of its processing are yielded as uploads without names of their own.
    """
    if isinstance(request, ModelToRegister):
        yield from (request.file, *request.beside)
        for sha256 in processing_files(request.processing):
            yield FileRef(name="processing", upload=sha256)
    if request.validation is not None:
        yield request.validation
    if not isinstance(request, ChainToRegister) and request.calibration is not None:
        yield request.calibration


def kind_of_request(request: ToRegister) -> str:
    """Return the kind of a request, as in `KINDS`."""
    return next(kind for kind, asked in KINDS.items() if type(request) is asked)


def processing_files(processing: Processing | None) -> list[str]:
    """Return the names of the files that processing needs."""
    steps = (processing.before, *processing.after) if processing is not None else ()
    named = [step.tokenizer for step in steps if isinstance(step, Tokenise)]
    return named + [step.labels for step in steps if isinstance(step, TopClasses) and step.labels]

"""Request to register a model, and the receiver of its progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from registry.pipeline.verification import MOST_ACCURACY_LOST
from registry.quality import AGREEMENT, COSINE, RELATIVE, check_measure
from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, PARTITIONS, THREADS
from schemas.errors import InvalidRequest
from schemas.hardware import Hardware
from schemas.names import check_name
from schemas.rows.processing import Processing
from security.access import check_access

_MAX_BATCH: Final = 1024


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Request to register one model file as an architecture of a task."""

    architecture: str
    task: str
    """Name of the task; it is created with the model's signature if it does not exist."""
    file: Path
    """Model file: `.onnx`, or `.pt2` as written by `torch.export.save`."""
    validation: Path | None = None
    """Labelled inputs: `.npz` with an array per input and `label`, `.csv`, or a folder with a folder per class."""
    calibration: Path | None = None
    """Unlabelled inputs in the same formats. Without them, rows of `validation` are set aside for calibration."""
    accuracy: float | None = None
    """Declared accuracy, 0..1, if there is no `validation`."""
    measure: str | None = None
    """Measure of the answers' quality, 0..1; None: the task's measure, else a guess where that is safe."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores."""
    output: str | None = None
    """Output that is measured; needed only if there are several candidates."""
    batch_axes: tuple[str, ...] = ()
    """`AXIS` or `TENSOR=AXIS`, if the batch is not the first dimension."""
    processing: Processing | None = None
    """Processing of texts or images before the model, and of its scores after it; its files are paths here."""
    max_batch: int = BATCH_LIMIT
    partitions: int = PARTITIONS
    """Partitions of each variant's topic, and so the most replicas of one variant."""
    hardware: str = Hardware.CPU
    threads: int = THREADS
    """Threads that compute a batch, each on a core of its own."""
    cores: tuple[int, ...] = ()
    """Numbers of cores above `threads` for which variants are made as well, if they are faster."""
    variants: tuple[str, ...] = ()
    """Labels of the variants to make, such as `onnx-int8dyn`; empty: all that can be made here. The reference is always
    made."""
    accuracy_samples: int = 1000
    """Most labelled rows that measure the accuracy."""
    max_accuracy_loss: float = MOST_ACCURACY_LOST
    """Most accuracy, 0..1, that a variant may lose against the model as registered."""
    again: bool = False
    """Measure registered variants again, for example on a new machine."""
    hold: bool = False
    """Do not let a new version of a known model serve: a rollout does that later."""
    asked_by: str = ""
    """User who registers it, `user@host`, for the model's history."""
    access: Access | None = None
    """Owner and users of a new model, and of its task if that is new, too. None: public without an owner, or private to
    the `publisher` if there is one."""
    publisher: str | None = None
    """Tenant that registers it and may change only its own models; None: an administrator."""
    made_of: tuple[str, ...] = ()
    """Tasks and models that a composite is made of. Only tenants that may use all of them may use it."""

    def check(self) -> None:
        """Raise `InvalidRequest` naming the field that is wrong; reads no file."""
        check_name("--name: architecture", self.architecture)
        check_name("--task: task", self.task)
        if self.architecture == self.task:
            raise InvalidRequest(
                f"{self.task} cannot be both a task and an architecture, since clients name both alike: choose another "
                "--name"
            )
        if self.measure is not None:
            check_measure(self.measure)
        if self.validation is None and self.accuracy is None:
            self._check_unlabelled()
        if self.accuracy is not None and (self.validation is not None or not 0 <= self.accuracy <= 1):
            raise InvalidRequest("--accuracy must be between 0 and 1, and cannot be combined with --validation")
        self._check_limits()
        if self.access is not None:
            check_access(self.access)

    def _check_unlabelled(self) -> None:
        if self.measure not in RELATIVE:
            raise InvalidRequest(
                "give labelled inputs by --validation, or declare the accuracy by --accuracy, or compare variants with "
                f"the model itself, on --calibration inputs without labels, by --measure {AGREEMENT} or {COSINE}"
            )
        if self.calibration is None:
            raise InvalidRequest(f"--measure {self.measure} needs inputs: give some, without labels, by --calibration")

    def _check_limits(self) -> None:
        if self.hardware not in Hardware.__members__.values():
            raise InvalidRequest(f"unknown hardware {self.hardware!r}; known are {', '.join(Hardware)}")
        if not 1 <= self.max_batch <= _MAX_BATCH:
            raise InvalidRequest(f"the largest batch must be 1 to {_MAX_BATCH}, not {self.max_batch}")
        if not 0 <= self.max_accuracy_loss <= 1:
            raise InvalidRequest("the maximum accuracy loss must be between 0 and 1")
        if min(self.partitions, self.threads, self.accuracy_samples) < 1:
            raise InvalidRequest("partitions, threads and accuracy samples must each be at least 1")
        if any(cores <= self.threads for cores in self.cores):
            raise InvalidRequest(f"--cores must be more than {self.threads}, for which every variant is made anyway")


class ProgressSink(Protocol):
    """Receiver of the progress of a registration. Its methods are called from the event loop."""

    def step(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` steps are finished, and `text` as the current activity."""
        ...

    def note(self, text: str) -> None:
        """Add a note that stays visible, such as a guess or a change to the model."""
        ...


def shown(sink: ProgressSink, done: int, total: int, text: str) -> Callable[[str], None]:
    """Show a step; return a function that adds where it runs, or that it waits."""
    sink.step(done, total, text)
    return lambda aside: sink.step(done, total, f"{text}, {aside}")

"""The request of a person who registers a model, and the progress that they are shown."""

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
    """One model file to register as an architecture of a task."""

    architecture: str
    task: str
    """Created with the model's signature if it does not exist."""
    file: Path
    """`.onnx`, or `.pt2` as written by `torch.export.save`."""
    validation: Path | None = None
    """Inputs and what is right for each: `.npz` with an array per input and `label`, `.csv`, or a folder per class."""
    calibration: Path | None = None
    """The same without labels. Without it, rows of `validation` are set aside."""
    accuracy: float | None = None
    """Declared accuracy, 0..1, where there is no `validation`."""
    measure: str | None = None
    """How the quality of its answers is measured, 0..1; None: as the task is, else guessed where that is safe."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores."""
    output: str | None = None
    """The output that is measured; needed only where several may be meant."""
    batch_axes: tuple[str, ...] = ()
    """`AXIS` or `TENSOR=AXIS`, where the batch is not the first dimension."""
    processing: Processing | None = None
    """What is done to texts or images before the model, and to its scores after; its files are paths here."""
    max_batch: int = BATCH_LIMIT
    partitions: int = PARTITIONS
    """Partitions of each variant's topic, hence the most replicas of one variant."""
    hardware: str = Hardware.CPU
    threads: int = THREADS
    """Threads a batch computes with, each on a core of its own."""
    cores: tuple[int, ...] = ()
    """Numbers of cores, beyond `threads`, that variants shall be made for as well: where that is faster."""
    variants: tuple[str, ...] = ()
    """Labels such as `onnx-int8dyn`; all that can be made here if empty. The reference is always made."""
    accuracy_samples: int = 1000
    """Most labelled rows that accuracy is measured on."""
    max_accuracy_loss: float = MOST_ACCURACY_LOST
    """Most accuracy, of 1, that a variant may have less than the model as registered."""
    again: bool = False
    """Measure once more what is registered already, for example on a new machine."""
    hold: bool = False
    """Leave a new version of a known model aside: a rollout has it serve."""
    asked_by: str = ""
    """Who registers it, `user@host`, for the model's history."""
    access: Access | None = None
    """Whose a new model is and who may use it, and its task if that is new, too; None: nobody's, and public, but
    private of a `publisher`."""
    publisher: str | None = None
    """Tenant that registers it, which changes nothing that is not its own; None: an administrator."""
    made_of: tuple[str, ...] = ()
    """Tasks and models that it is made of: nobody may use it who may not use all of these."""

    def check(self) -> None:
        """Raise `InvalidRequest` that says which field is wrong, without a look at any file."""
        check_name("--name: architecture", self.architecture)
        check_name("--task: task", self.task)
        if self.architecture == self.task:
            raise InvalidRequest(
                f"{self.task} cannot be both a task and an architecture, since clients ask for either by name: "
                "choose another --name"
            )
        if self.measure is not None:
            check_measure(self.measure)
        if self.validation is None and self.accuracy is None:
            self._check_unlabelled()
        if self.accuracy is not None and (self.validation is not None or not 0 <= self.accuracy <= 1):
            raise InvalidRequest("a declared --accuracy is between 0 and 1, and is given only without --validation")
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
            raise InvalidRequest(
                f"--measure {self.measure} compares on inputs: give some, without labels, by --calibration"
            )

    def _check_limits(self) -> None:
        if self.hardware not in Hardware.__members__.values():
            raise InvalidRequest(f"unknown hardware {self.hardware!r}; known are {', '.join(Hardware)}")
        if not 1 <= self.max_batch <= _MAX_BATCH:
            raise InvalidRequest(f"the largest batch must be 1 to {_MAX_BATCH}, not {self.max_batch}")
        if not 0 <= self.max_accuracy_loss <= 1:
            raise InvalidRequest("the accuracy that a variant may lose is between 0 and 1")
        if min(self.partitions, self.threads, self.accuracy_samples) < 1:
            raise InvalidRequest("partitions, threads and accuracy samples must each be at least 1")
        if any(cores <= self.threads for cores in self.cores):
            raise InvalidRequest(f"--cores are more than the {self.threads} that every variant is made for anyway")


class ProgressSink(Protocol):
    """Place where the progress of a registration is shown."""

    def step(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps are finished, and `text` says what goes on now. Called from the event loop."""
        ...

    def note(self, text: str) -> None:
        """Say something that stays: what was guessed, or done to the model. Called from the event loop."""
        ...


def shown(sink: ProgressSink, done: int, total: int, text: str) -> Callable[[str], None]:
    """Show a step, and return what shows where it goes on, or what it waits for."""
    sink.step(done, total, text)
    return lambda aside: sink.step(done, total, f"{text}, {aside}")

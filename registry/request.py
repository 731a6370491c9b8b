"""Requests to register a model, a cascade or a chain, and the receiver of their progress."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from process.security.access import check_access
from registry.quality import AGREEMENT, COSINE, RELATIVE, check_measure
from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, CONTEXT_TOKENS, PARTITIONS, SEQUENCES, THREADS
from schemas.errors import InvalidRequest
from schemas.hardware import Hardware
from schemas.names import check_name
from schemas.rows.catalog import Processing

_MAX_BATCH: Final = 1024
_MAX_SEQUENCES: Final = 256
_FEWEST_TOKENS: Final = 16
_MOST_TOKENS: Final = 1 << 20
SAMPLES: Final = 1000
"""Default of the most labelled rows that measure an accuracy."""
MOST_ACCURACY_LOST: Final = 0.05
"""Default of the most accuracy, 0..1, that a variant may lose."""


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
    sequences: int = SEQUENCES
    """Most answers that an instance of a generative model makes at once."""
    context_tokens: int = CONTEXT_TOKENS
    """Most tokens of a prompt and its answer, for generative models."""
    partitions: int = PARTITIONS
    """Partitions of the topics of a new task. On a broker that can add none, also the maximum replicas of a variant."""
    hardware: str = Hardware.CPU
    threads: int = THREADS
    """Threads that compute a batch, each on a core of its own."""
    cores: tuple[int, ...] = ()
    """Numbers of cores above `threads` for which variants are made as well, if they are faster."""
    variants: tuple[str, ...] = ()
    """Labels of the variants to make, such as `onnx-int8dyn`; empty: all that can be made here. The reference is always
    made."""
    accuracy_samples: int = SAMPLES
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
        if not 1 <= self.sequences <= _MAX_SEQUENCES:
            raise InvalidRequest(f"the answers at once must be 1 to {_MAX_SEQUENCES}, not {self.sequences}")
        if not _FEWEST_TOKENS <= self.context_tokens <= _MOST_TOKENS:
            raise InvalidRequest(f"the context must be {_FEWEST_TOKENS} to {_MOST_TOKENS} tokens")
        if not 0 <= self.max_accuracy_loss <= 1:
            raise InvalidRequest("the maximum accuracy loss must be between 0 and 1")
        if min(self.partitions, self.threads, self.accuracy_samples) < 1:
            raise InvalidRequest("partitions, threads and accuracy samples must each be at least 1")
        if any(cores <= self.threads for cores in self.cores):
            raise InvalidRequest(f"--cores must be more than {self.threads}, for which every variant is made anyway")


class CascadeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to register a cascade."""

    task: str
    first: str
    """Variant of the first stage, which answers inputs that it is confident of."""
    then: str
    """Variant of the second stage, which answers the other inputs."""
    validation: Path
    """`.npz` with an array per input, and `label`."""
    calibration: Path | None = None
    """File that calibrated the stages, if there was one."""
    name: str | None = None
    """Name of the architecture; None: made from the names of the stages."""
    thresholds: tuple[float, ...] = ()
    min_accuracies: tuple[float, ...] = ()
    """Accuracies, 0..1, to find a threshold for. With neither these nor `thresholds`, some are found from cheap to
    accurate."""
    output: str | None = None
    """Output with the scores of the classes, if there are several outputs."""
    confidence: str | None = None
    """`softmax`, `probability`, or the name of the output that holds the confidence; None: guessed from the scores."""
    samples: int = SAMPLES
    """Most rows that calibrate, and most rows that measure."""
    again: bool = False
    access: Access | None = None
    publisher: str | None = None
    """Tenant that registers it, from variants that it sees; None: an administrator."""

    def check(self) -> None:
        """Raise `InvalidRequest` if the request is wrong in itself; reads nothing."""
        if self.first == self.then:
            raise InvalidRequest("a cascade needs two different variants: choose another one by --then")
        wrong = [value for value in self.thresholds if not 0 < value <= 1]
        if wrong:
            raise InvalidRequest(f"a --threshold must be above 0 and at most 1, not {wrong[0]:g}")


class ChainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to register a chain."""

    name: str
    """Name of the chain's task."""
    tasks: tuple[str, ...]
    feeds: Mapping[str, Mapping[str, str]] = {}
    """Output of the task before, by task and by input that it feeds, if the names do not tell."""
    through: tuple[tuple[str, ...], ...] = ()
    """Variants of the stages, one tuple for each chain; empty: all combinations of the cheapest and the most accurate
    of each task."""
    validation: Path | None = None
    """`.npz` with an array per input of the first task, and `label`: the right class of the last task."""
    accuracy: float | None = None
    """Declared accuracy of the chain, if there is no `validation`; None: the product of the accuracies of the
    stages."""
    output: str | None = None
    """Output with the scores of the classes, if the last task has several outputs."""
    hardware: str = Hardware.CPU
    again: bool = False
    access: Access | None = None
    publisher: str | None = None
    """Tenant that registers it, from variants that it sees; None: an administrator."""

    def check(self) -> None:
        """Raise `InvalidRequest` if the request is wrong in itself; reads nothing."""
        if len(self.tasks) < 2:
            raise InvalidRequest("a chain needs at least two tasks")
        if self.name in self.tasks:
            raise InvalidRequest(f"{self.name} is one of the tasks: choose another name for the chain")
        for task in self.feeds:
            if task not in self.tasks[1:]:
                raise InvalidRequest(f"--feed names an input of {task}, which follows no other task of the chain")
        for names in self.through:
            if len(names) != len(self.tasks):
                raise InvalidRequest(f"--through names {len(names)} variants for {len(self.tasks)} tasks")


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

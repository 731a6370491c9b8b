"""Registers the zoo in the same way as users register their own models, several models at once.

The first model of each task comes first, so that every task has a variant after some seconds; then come the others, the
largest first, because they take the longest. The steps that run at once must not disturb the measurements: see
`registry.step_runner.LocalSteps`.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from broker.kafka.settings import KafkaSettings
from process.cpus import usable_cores
from process.errors import leaves
from registry.artifacts import ArtifactStore
from registry.quality import CONTAINS, COSINE
from registry.register import register
from registry.request import ProgressSink, Registration
from registry.step_runner import LocalSteps, StepRunner
from schemas.defaults import BATCH_LIMIT, PARTITIONS, THREADS
from schemas.hardware import Hardware
from schemas.rows.catalog import ACCURACY, Variant
from store.pool import Pool
from zoo.catalog import ZooModel, models_of
from zoo.chat import QUESTIONS, chat_model_file
from zoo.chat import TASK as CHAT
from zoo.minilm import build_minilm
from zoo.samples import Inputs, calibration, labelled
from zoo.sentences import sentence_encoder_files
from zoo.whole_file import whole_file

_SCORES: Final = "logits"
"""Output that is measured of classifiers."""
_VECTORS: Final = "embedding"
"""Output that is measured of encoders."""
_TEXTS: Final = "sentiment-text"
"""Task whose texts measure encoders."""
_ALL_SAMPLES = 4000
_FEW_SAMPLES = 1000
_AT_ONCE: Final = 3
"""Models at once: while one is measured, the next one is prepared and the outputs of the last one are computed."""


async def register_zoo(
    pool: Pool,
    kafka: KafkaSettings,
    artifacts: ArtifactStore,
    progress: ProgressSink,
    cache: Path,
    *,
    tasks: tuple[str, ...] = (),
    hardware: Sequence[Hardware] = (Hardware.CPU,),
    max_batch: int = BATCH_LIMIT,
    partitions: int = PARTITIONS,
    threads: int = THREADS,
    all_variants: bool = False,
    again: bool = False,
    runner: StepRunner | None = None,
) -> list[Variant]:
    """Register the models of the named tasks (empty: all) for each `hardware`; `runner` runs the steps (None: here).

    The variants are those in the catalog, or with `all_variants` all that can be made. Registered variants are not
    measured again unless `again` is set. Built models and labelled data are cached in `cache`. Cancellation keeps
    finished variants, and so does an error.

    Raises:
        OperatorError: a service or the disk fails, or an earlier registration conflicts.
    """
    models = models_of(tasks)
    steps = {(model.architecture, device): 2 + len(model.variants) for model in models for device in hardware}
    shared, runner = _SharedProgress(progress, steps), runner or LocalSteps()
    slots = asyncio.Semaphore(_AT_ONCE if usable_cores() > 1 else 1)
    preparing = asyncio.Lock()  # models share files in the cache
    made: dict[str, list[Variant]] = {}

    async def register_model(model: ZooModel) -> None:
        async with slots:
            async with preparing:
                request = await asyncio.to_thread(_request, model, cache)
            variants = () if all_variants else request.variants
            request = replace(
                request, max_batch=max_batch, partitions=partitions, threads=threads, again=again, variants=variants
            )
            for device in hardware:
                one, part = _for_hardware(request, device), _PartialProgress(shared, (model.architecture, device))
                made[model.architecture] = await register(one, pool, kafka, artifacts, part, runner)

    progress.step(0, 1, "preparing models and data")
    for group in _in_order(models):
        try:
            async with asyncio.TaskGroup() as registrations:
                for model in group:
                    registrations.create_task(register_model(model), name=f"register {model.architecture}")
        except ExceptionGroup as errors:
            raise leaves(errors)[0] from errors
    shared.finish("the zoo is registered")
    return list({variant.name: variant for model in models for variant in made[model.architecture]}.values())


def _in_order(models: Sequence[ZooModel]) -> tuple[list[ZooModel], list[ZooModel]]:
    """Return the first model of each task, which decides how the task is measured, and the others by their size."""
    first = {model.task: model for model in reversed(models)}
    others = [model for model in models if first[model.task] is not model]
    return [*reversed(first.values())], sorted(others, key=_size, reverse=True)


def _size(model: ZooModel) -> tuple[int, int]:
    return model.minilm_depth, 0 if model.file is None else model.file.stat().st_size


_Part = tuple[str, Hardware]
"""Architecture and hardware of a registration."""


class _SharedProgress:
    """Progress of several registrations at once as one whole; `steps` are the expected steps of each."""

    def __init__(self, whole: ProgressSink, steps: dict[_Part, int]) -> None:
        self._whole = whole
        self._steps = steps
        self._done = dict.fromkeys(steps, 0)

    def step(self, part: _Part, done: int, total: int, text: str) -> None:
        """Report a step of one registration; its total is known once it is more than one."""
        if total > 1:
            self._steps[part] = total
        self._done[part] = min(done, self._steps[part])
        self._whole.step(sum(self._done.values()), sum(self._steps.values()), text)

    def finish(self, text: str) -> None:
        """Report the end of all registrations."""
        total = sum(self._steps.values())
        self._whole.step(total, total, text)

    def note(self, text: str) -> None:
        """Report a permanent line."""
        self._whole.note(text)


class _PartialProgress:
    """Progress of one registration as a part of the whole."""

    def __init__(self, whole: _SharedProgress, part: _Part) -> None:
        self._whole = whole
        self._part = part

    def step(self, done: int, total: int, text: str) -> None:
        """Report a step; `total` is that of the part."""
        self._whole.step(self._part, done, total, text)

    def note(self, text: str) -> None:
        """Report a permanent line."""
        self._whole.note(text)


def _for_hardware(request: Registration, hardware: Hardware) -> Registration:
    """Return the request for one hardware. The catalog's variants apply to CPUs; other hardware gets all variants."""
    return replace(request, hardware=hardware, variants=request.variants if hardware is Hardware.CPU else ())


def _request(model: ZooModel, cache: Path) -> Registration:
    if model.task == CHAT:
        return _chat_model(model, cache)
    if model.on_demand:
        return _sentence_encoder(model, cache)
    file = model.file
    if file is None:
        file = cache / f"minilm-l{model.minilm_depth}.onnx"
        if not file.exists():
            build_minilm(model.minilm_depth, file)
    files = labelled_files(model.task, cache)
    return Registration(
        architecture=model.architecture,
        task=model.task,
        file=file,
        processing=model.processing,
        validation=files.validation,
        calibration=files.calibration,
        measure=ACCURACY,
        output=_SCORES,
        variants=model.variants,
        # The transformers take 10 ms and more per input; all models of a task are measured on the same rows.
        accuracy_samples=_FEW_SAMPLES if model.task.startswith("sentiment") else _ALL_SAMPLES,
    )


def _sentence_encoder(model: ZooModel, cache: Path) -> Registration:
    """Return the request of an encoder, whose variants are measured by the vectors of the model as registered."""
    file, processing = sentence_encoder_files(cache)
    return Registration(
        architecture=model.architecture,
        task=model.task,
        file=file,
        processing=processing,
        calibration=labelled_files(_TEXTS, cache).calibration,
        measure=COSINE,
        output=_VECTORS,
        variants=model.variants,
    )


def _chat_model(model: ZooModel, cache: Path) -> Registration:
    return Registration(
        architecture=model.architecture,
        task=model.task,
        file=chat_model_file(model.architecture, cache),
        validation=QUESTIONS,
        measure=CONTAINS,
        variants=model.variants,
    )


class LabelledFiles(NamedTuple):
    """Files with a task's inputs for a registration."""

    validation: Path
    calibration: Path


def labelled_files(task: str, cache: Path) -> LabelledFiles:
    """Return the validation and calibration files of a zoo task in `cache`, written if missing. Blocks.

    Raises:
        OperatorError: the zoo has no such task, or the files cannot be written.
    """
    return LabelledFiles(
        _write_once(cache / f"{task}-validation.npz", lambda: labelled(task)),
        _write_once(cache / f"{task}-calibration.npz", lambda: (calibration(task), None)),
    )


def _write_once(file: Path, read: Callable[[], tuple[Inputs, NDArray[np.int64] | None]]) -> Path:
    """Write inputs, and labels if any, to a file, atomically, unless it exists."""
    if file.exists():
        return file
    inputs, labels = read()
    with whole_file(file) as partial, partial.open("wb") as content:
        # Texts and PNG files never end with NUL, so numpy's bytes type keeps them whole.
        plain = {name: array.astype("S") if array.dtype.kind == "O" else array for name, array in inputs.items()}
        np.savez(content, allow_pickle=False, **plain, **({} if labels is None else {"label": labels}))
    return file

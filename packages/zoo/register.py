"""Registers the zoo in the same way as users register their own models."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.register import register, step_count
from registry.request import ProgressSink, Registration
from registry.step_runner import LOCAL, StepRunner
from schemas.defaults import BATCH_LIMIT, PARTITIONS, THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.catalog import ACCURACY, Variant
from store.pool import Pool
from zoo.catalog import ZooModel, models_of
from zoo.minilm import build_minilm
from zoo.samples import Inputs, calibration, labelled

_SCORES: Final = "logits"
"""Output that is measured; every model of the zoo has it."""
_ALL_SAMPLES = 4000
_FEW_SAMPLES = 1000


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
    runner: StepRunner = LOCAL,
) -> list[Variant]:
    """Register the models of the named tasks (empty: all) for each `hardware`, with the steps run by `runner`.

    The variants are those in the catalog, or with `all_variants` all that can be made. Registered variants are not
    measured again unless `again` is set. Built models and labelled data are cached in `cache`. Cancellation keeps
    finished variants.

    Raises:
        OperatorError: a service or the disk fails, or an earlier registration conflicts.
    """
    models = models_of(tasks)
    progress.step(0, 1, "preparing models and data")
    requests = [await asyncio.to_thread(_request, model, cache) for model in models]
    requests = [
        replace(request, max_batch=max_batch, partitions=partitions, threads=threads, again=again)
        for request in requests
    ]
    if all_variants:
        requests = [replace(request, variants=()) for request in requests]
    requests = [_for_hardware(request, device) for request in requests for device in hardware]
    counts = [await step_count(request, runner) for request in requests]
    variants: dict[str, Variant] = {}
    for index, request in enumerate(requests):
        part = _PartialProgress(progress, sum(counts[:index]), sum(counts))
        variants |= {variant.name: variant for variant in await register(request, pool, kafka, artifacts, part, runner)}
    progress.step(sum(counts), sum(counts), "the zoo is registered")
    return list(variants.values())


class _PartialProgress:
    """Progress of one registration as a part of the whole."""

    def __init__(self, whole: ProgressSink, before: int, total: int) -> None:
        self._whole = whole
        self._before = before
        self._total = total

    def step(self, done: int, total: int, text: str) -> None:
        """Report a step; `total` is that of the part, and is already included in the whole's total."""
        self._whole.step(self._before + min(done, total), self._total, text)

    def note(self, text: str) -> None:
        """Report a permanent line."""
        self._whole.note(text)


def _for_hardware(request: Registration, hardware: Hardware) -> Registration:
    """Return the request for one hardware. The catalog's variants apply to CPUs; other hardware gets all variants."""
    return replace(request, hardware=hardware, variants=request.variants if hardware is Hardware.CPU else ())


def _request(model: ZooModel, cache: Path) -> Registration:
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
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as content:
            # Texts and PNG files never end with NUL, so numpy's bytes type keeps them whole.
            plain = {name: array.astype("S") if array.dtype.kind == "O" else array for name, array in inputs.items()}
            np.savez(content, allow_pickle=False, **plain, **({} if labels is None else {"label": labels}))
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OperatorError(f"cannot write {file}: {error.strerror or error}") from error
    return file

"""Files of a step: the files that it reads, the files that it writes, and the files that its result may name.

In a sandbox a step sees no other files (`process.sandbox`). Its results are not trusted: it processes a tenant's file
with libraries that may have security holes. Hence only plain files with expected names are taken over, and a result
that names any other file is refused.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from process.sandbox import SandboxFiles
from registry.importers.imported import ImportedModel, labels_file
from registry.importers.importing import ImportModel
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.inspection import Inspection, InspectModel
from registry.pipeline.measurement import ComputeOutputs, MeasureVariant
from registry.pipeline.source_format import SourceFormat, files_beside
from runtimes.composite import hold_artifacts
from runtimes.tensorrt import ENGINES_FOLDER
from schemas.errors import InvalidRequest, ModelFailed
from schemas.hardware import Hardware
from schemas.registrations import processing_files
from schemas.rows.catalog import Processing

PipelineStep: TypeAlias = InspectModel | GenerateVariant | MeasureVariant | ComputeOutputs | ImportModel


class StepFiles(NamedTuple):
    """Files of a step, by absolute path."""

    read: tuple[Path, ...]
    written: tuple[Path, ...]
    """Files that it writes; a file whose name begins with one of these names belongs to it."""
    devices: bool = False
    """True if it computes on an accelerator."""


def step_files(step: PipelineStep) -> StepFiles:
    """Return the files of a step; blocks, because an ONNX file must be read to find its weights."""
    match step:
        case InspectModel():
            read = [step.file, *_of_processing(step.processing)]
            if step.source_format is SourceFormat.ONNX and step.file.is_file():
                read += files_beside(step.file)
            return _absolute(read, [step.safe_copy])
        case ImportModel():
            beside = [step.source.with_suffix(".bin")] if step.source.suffix == ".xml" else []
            return _absolute([step.source, *beside, *_linked(step.source)], [step.target])
        case GenerateVariant():
            given = [step.source, step.calibration, step.samples]
            return _absolute(given, [step.target, step.target.with_suffix(".pt2")], step.hardware)
        case MeasureVariant() | ComputeOutputs():
            read = [*_artifacts(step.runtime, step.artifact), step.samples, *_of_processing(step.processing)]
            single = step.single_outputs if isinstance(step, MeasureVariant) else None
            written = [step.outputs, single, *_engines(step.artifact, step.hardware)]
            return _absolute(read, written, step.hardware)


def _absolute(read: Iterable[Path | None], written: Iterable[Path | None], hardware: str = Hardware.CPU) -> StepFiles:
    return StepFiles(
        tuple(file.absolute() for file in read if file is not None),
        tuple(file.absolute() for file in written if file is not None),
        hardware != Hardware.CPU,
    )


def _of_processing(processing: Processing | None) -> list[Path]:
    return [Path(file) for file in processing_files(processing)]


def _artifacts(runtime: str, artifact: Path) -> list[Path]:
    """Return an artifact, and for a composite those of its stages, which lie beside it."""
    found: list[Path] = []

    def note(sha256: str) -> Path:
        found.append(artifact.parent / sha256)
        return found[-1]

    hold_artifacts(runtime, artifact.name, note)
    return found


def _engines(artifact: Path, hardware: str) -> list[Path]:
    """Return the prefix of the TensorRT engines that are built from an artifact."""
    return [artifact.parent / ENGINES_FOLDER / artifact.name[:16]] if hardware == Hardware.CUDA else []


def _linked(folder: Path) -> list[Path]:
    """Return files outside a folder to which its links lead, as in Hugging Face's cache; an upload has no links."""
    if not folder.is_dir():
        return []
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return [file.resolve() for file in found if file.is_symlink()]


class OwnFolders:
    """Folders that replace the target folders of a step, so that it can change nothing else there."""

    def __init__(self, folder: Path, files: StepFiles) -> None:
        """Create them in `folder`; blocks."""
        self._files = files
        self._own: dict[Path, Path] = {}
        for place in dict.fromkeys(file.parent for file in files.written):
            self._own[place] = folder / f"{len(self._own)}"
            self._own[place].mkdir()

    def sandbox_files(self, scratch: Path, temporary: Path) -> SandboxFiles:
        """Return the files of the sandbox; `scratch` is its folder for temporary files."""
        return SandboxFiles(self._files.read, {temporary: scratch, **self._own}, self._files.devices)

    def take_over(self) -> None:
        """Move the files that the step wrote to their targets; blocks.

        Raises:
            ModelFailed: it wrote something other than plain files.
        """
        for place, own in self._own.items():
            begins = tuple(file.name for file in self._files.written if file.parent == place)
            for found in sorted(own.iterdir()):
                target = place / found.name
                if target in self._files.read or not found.name.startswith(begins):
                    continue  # mount point of a file that it reads, or a temporary file
                if not stat.S_ISREG(found.lstat().st_mode):
                    raise ModelFailed(f"it wrote {found.name}, which is not a plain file")
                place.mkdir(exist_ok=True)
                shutil.move(found, target)


def check_result(step: PipelineStep, result: object) -> None:
    """Raise `InvalidRequest` if the result of a step names files that the step may not name."""
    if isinstance(step, InspectModel) and isinstance(result, Inspection):
        _check_named([result.file], [step.file, step.safe_copy])
    if isinstance(step, ImportModel) and isinstance(result, ImportedModel):
        allowed = [step.source, step.target, labels_file(step.target)]
        _check_named([result.file, *_of_processing(result.processing)], allowed)


def _check_named(named: Sequence[Path], allowed: Sequence[Path]) -> None:
    for file in named:
        inside = any(file.absolute().is_relative_to(one.absolute()) for one in allowed)
        if not inside or ".." in file.parts:
            raise InvalidRequest(f"reading the model named {file}, which does not belong to it")

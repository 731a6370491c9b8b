"""What an import finds: a file to register, and what its owner told of it in other files."""

import re
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from registry.registration import Registration
from schemas.rows.processing import Processing

_OTHER: Final = re.compile(r"[^a-z0-9]+")
_LONGEST: Final = 63
_MODEL: Final = "model"


class ImportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model file, and what was found beside it; what a person says themselves goes before it."""

    file: Path
    name: str
    """A name for the architecture."""
    kind: str
    """What it was taken for, in words."""
    measure: str | None = None
    classes: tuple[str, ...] = ()
    output: str | None = None
    max_batch: int | None = None
    processing: Processing | None = None
    notes: tuple[str, ...] = ()
    """What was found and done, for the person who registers it."""


def completed(request: Registration, found: ImportedModel) -> Registration:
    """The request for what was found, with what was found out wherever the person said nothing."""
    return replace(
        request,
        file=found.file,
        measure=request.measure or found.measure,
        classes=request.classes or found.classes,
        output=request.output or found.output,
        max_batch=min(request.max_batch, found.max_batch or request.max_batch),
        processing=request.processing or found.processing,
    )


def name_of(path: Path, task: str = "") -> str:
    """Name an architecture after its file or folder, other than its task: clients ask for either by name."""
    stem = path.stem if path.is_file() else path.name
    name = _OTHER.sub("-", stem.lower()).strip("-")[:_LONGEST].strip("-") or _MODEL
    return name if name != task else f"{name[: _LONGEST - len(_MODEL) - 1].rstrip('-')}-{_MODEL}"

"""Fingerprint of a registration: registrations with different fingerprints are different versions.

A file counts by its content, so a moved file is the same. A folder counts by the names and contents of its files.
"""

import hashlib
from pathlib import Path

from registry.artifacts import sha256_of
from registry.registration import Registration
from schemas.rows.processing import Processing


def made_with(request: Registration) -> dict[str, str]:
    """Return the options that influence the measured quality of a model, by name; blocks, since it reads files.

    Raises:
        OperatorError: a file cannot be read.
    """
    given: dict[str, object] = {
        "validation": request.validation and fingerprint(request.validation),
        "calibration": request.calibration and fingerprint(request.calibration),
        "accuracy": request.accuracy,
        "measure": request.measure,
        "output": request.output,
        "batch-axis": ", ".join(request.batch_axes) or None,
        "max-batch": request.max_batch,
        "classes": ", ".join(request.classes) or None,
        "accuracy-samples": request.accuracy_samples,
        "max-accuracy-loss": request.max_accuracy_loss,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def by_content(processing: Processing | None) -> Processing | None:
    """Return the processing with its files named by SHA-256 instead of by path; blocks. Raises `OperatorError`."""
    return processing and processing.with_files(lambda file: sha256_of(Path(file)))


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents in a folder; blocks. Raises `OperatorError`."""
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()

"""What a registration was asked for, in few words: two that differ are not the same version.

Files count by their content, so that one which was moved is the same; a folder by the names and contents in it.
"""

import hashlib
from pathlib import Path

from registry.artifacts import sha256_of
from registry.registration import Registration
from schemas.rows.processing import Processing


def made_with(request: Registration) -> dict[str, str]:
    """What decides how good a model is found, by option; blocks, since it reads files.

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
    """Processing whose files are paths, with these named by their SHA-256; blocks. Raises `OperatorError`."""
    return processing and processing.with_files(lambda file: sha256_of(Path(file)))


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder; blocks. Raises `OperatorError`."""
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()

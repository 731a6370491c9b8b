"""Secrets in files that only their owner can read, created on first use."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

_BYTES: Final = 24


def keep_secret(file: Path) -> str:
    """Return the secret in this file, created at random if the file is absent; the file appears complete or not at all.

    If several processes create it at once, all return the secret of the first. Surrounding white space is ignored,
    since editors append a newline.
    """
    if not file.exists():
        with _written(file, secrets.token_urlsafe(_BYTES)) as fresh, suppress(FileExistsError):
            os.link(fresh, file)  # unlike a rename, it never replaces a file
    return file.read_text().strip()


def write_secret(file: Path, text: str) -> None:
    """Write a secret to this file in UTF-8; the file is never readable by others."""
    with _written(file, text) as fresh:
        fresh.replace(file)


@contextmanager
def _written(file: Path, text: str) -> Generator[Path]:
    """Write a text to a temporary file of this process, beside `file`."""
    descriptor, name = mkstemp(prefix=f"{file.name}.", suffix=".new", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(text.encode())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)

"""A secret in a file that its owner alone may read, made the first time that it is asked for."""

import os
import secrets
from pathlib import Path
from typing import Final

_BYTES: Final = 24


def keep_secret(file: Path) -> str:
    """Return the secret in this file; where there is none it is made, at random, and there as a whole or not at all.

    What stands around it counts for nothing: who writes one of their own ends the line.
    """
    if not file.exists():
        write_secret(file, secrets.token_urlsafe(_BYTES))
    return file.read_text().strip()


def write_secret(file: Path, text: str) -> None:
    """Write what holds a secret, in UTF-8, into this file, which nobody else may read at any time."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(text.encode())
    fresh.replace(file)

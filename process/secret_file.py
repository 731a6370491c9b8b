"""Secrets in files that only their owner can read, created on first use."""

import os
import secrets
from pathlib import Path
from typing import Final

_BYTES: Final = 24


def keep_secret(file: Path) -> str:
    """Return the secret in this file, created at random if the file is absent; the file appears complete or not at all.

    Surrounding white space is ignored, since editors append a newline.
    """
    if not file.exists():
        write_secret(file, secrets.token_urlsafe(_BYTES))
    return file.read_text().strip()


def write_secret(file: Path, text: str) -> None:
    """Write a secret to this file in UTF-8; the file is never readable by others."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(text.encode())
    fresh.replace(file)

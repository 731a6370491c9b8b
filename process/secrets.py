"""Secrets of a process: files that only their owner can read, and their removal from the environment.

A process that loads models forgets its secrets after it has read its settings. Removal from `os.environ` leaves the
values in the memory block that the kernel shows as `/proc/<pid>/environ`, so they are overwritten there, too (Linux).
Settings objects and connections keep the secrets they need. See docs/security.md for the data that models can still
reach.
"""

import ctypes
import os
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

_BYTES: Final = 24
_SECRETS: Final = frozenset(
    (
        *("INFAAS_POSTGRES", "INFAAS_KAFKA_SASL_PASSWORD", "INFAAS_KAFKA_SASL_TOKEN", "INFAAS_KAFKA_TLS_KEY_PASSWORD"),
        *("INFAAS_SIGNING_SECRET", "INFAAS_JOBS_WEBHOOK_SECRET", "INFAAS_KEY"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    )
)
_MASK: Final = ord("*")
"""Not NUL: readers of the block, such as psutil, treat an empty entry as its end."""
_STAT: Final = Path("/proc/self/stat")
_ENVIRONMENT_AT: Final = 50 - 3
"""Index of the block's address among the fields after the program's name; the name may contain spaces (`proc(5)`)."""


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


def forget_secrets() -> None:
    """Remove variables with secrets from the environment, as seen by models and by other processes."""
    for name in _SECRETS & os.environ.keys():
        del os.environ[name]
    if sys.platform == "linux":
        _overwrite()


def _overwrite() -> None:
    numbers = _STAT.read_text().rpartition(")")[2].split()
    at, end = (int(number) for number in numbers[_ENVIRONMENT_AT : _ENVIRONMENT_AT + 2])
    if not 0 < at < end:
        return
    for entry in ctypes.string_at(at, end - at).split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name.decode(errors="replace") in _SECRETS:
            ctypes.memset(at + len(name) + 1, _MASK, len(value))
        at += len(entry) + 1

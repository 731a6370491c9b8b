"""Removes secrets from the environment of a process that loads models after it has read its settings.

Removal from `os.environ` leaves the values in the memory block that the kernel shows as `/proc/<pid>/environ`, so they
are overwritten there, too (Linux). Settings objects and connections keep the secrets they need. See docs/security.md
for the data that models can still reach.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

_SECRETS: Final = frozenset(
    (
        *("INFAAS_POSTGRES", "INFAAS_KAFKA_SASL_PASSWORD", "INFAAS_KAFKA_SASL_TOKEN", "INFAAS_KAFKA_TLS_KEY_PASSWORD"),
        *("INFAAS_SIGNING_SECRET", "INFAAS_JOBS_WEBHOOK_SECRET", "INFAAS_KEY"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    )
)
_MASK: Final = ord("*")
"""Not NUL: readers of the block, such as psutil, treat an empty entry as its end."""
_STAT: Final = Path("/proc/self/stat")
_ENVIRONMENT_AT: Final = 50 - 3
"""Index of the block's address among the fields after the program's name; the name may contain spaces (`proc(5)`)."""


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

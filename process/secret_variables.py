"""Takes secrets out of the environment of a process that has read them and goes on to load models.

Variables that `os.environ` alone removes still stand in the block that the kernel shows as `/proc/<pid>/environ`,
so their values are overwritten there, too (Linux). Settings objects, and connections, keep what they need. What models
may still reach is in docs/security.md.
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
"""Not NUL: readers of the block, such as psutil, take an empty entry for its end."""
_STAT: Final = Path("/proc/self/stat")
_ENVIRONMENT_AT: Final = 50 - 3
"""Place of the block's address in the line, after the name of the program, which may hold anything (`proc(5)`)."""


def forget_secrets() -> None:
    """Remove the variables that hold secrets from the environment of this process, as others and models see it."""
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

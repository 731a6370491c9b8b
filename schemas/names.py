"""Names of tasks, architectures, variants, workers and tenants.

One rule applies to all of them, so that a name is valid as a Kafka topic suffix, a consumer group, a Prometheus label,
a URL segment and a Kubernetes label: 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends. A
variant's name joins three such words with dots: `architecture.runtime-precision.hardware`. Clients name a version of a
model as `model@number`; this form is used nowhere else, because a topic may not contain `@`. Names contain no `_`,
because Kafka's metric names replace both `.` and `_` by the same character.
"""

import re
from typing import Final

from schemas.errors import InvalidRequest

MAX_NAME: Final = 63
_WORD: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(_WORD)
_VERSION: Final = re.compile(rf"{_WORD}@[1-9][0-9]{{0,8}}")
_VARIANT: Final = re.compile(rf"{_WORD}\.{_WORD}\.{_WORD}")


def is_name(text: str) -> bool:
    """Return true if `text` is a valid name of a task, architecture, worker or tenant."""
    return _NAME.fullmatch(text) is not None


def is_variant_name(text: str) -> bool:
    """Return true if `text` has the form `architecture.runtime-precision.hardware`."""
    return _VARIANT.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Return true if `text` has the form `model@number`."""
    return _VERSION.fullmatch(text) is not None


def version_target(model: str, version: int) -> str:
    """Return the target with which a client requests one version of a model, e.g. `textcnn@2`."""
    return f"{model}@{version}"


def check_name(kind: str, text: str) -> str:
    """Return `text` if it is a valid name.

    Raises:
        InvalidRequest: it is not; the message describes a valid name of this `kind`.
    """
    if is_name(text):
        return text
    raise InvalidRequest(
        f"{kind} name {text[:80]!r} is not allowed: use 1 to {MAX_NAME} of a-z, 0-9 and '-', "
        "starting and ending with a letter or digit"
    )


def variant_name(architecture: str, runtime: str, precision: str, hardware: str) -> str:
    """Return the name of a variant, e.g. `textcnn.onnx-int8.cpu`.

    Raises:
        InvalidRequest: `architecture` is not a valid name.
    """
    return f"{check_name('architecture', architecture)}.{runtime}-{precision}.{hardware}"


def worker_name(hardware: str, number: int, prefix: str = "") -> str:
    """Return the name of the worker of this hardware and number."""
    return f"{prefix}{hardware}-{number}"


def hardware_of(worker: str) -> str:
    """Return the hardware in a worker's name, the word before the number."""
    return worker.rpartition("-")[0].rpartition("-")[2]


def number_of(worker: str) -> int:
    """Return the number in a worker's name; -1 if there is none, which is last in descending order."""
    digits = worker.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1

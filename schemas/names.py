"""Names of tasks, architectures, variants, workers and tenants.

One rule for all, so that a name is at once a Kafka topic suffix, a consumer group, a Prometheus label, a URL segment
and a Kubernetes label: lower-case letters, digits and `-`, starting and ending with a letter or digit, at most 63
characters. A variant joins three of them by dots: `architecture.runtime-precision.hardware`. A version of a model is
`model@number` where a client names it, and nowhere else, since no topic may hold an `@`. There is no `_`, because Kafka
folds `.` and `_` into one in its metric names.
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
    """Whether `text` may name a task, architecture, worker or tenant."""
    return _NAME.fullmatch(text) is not None


def is_variant_name(text: str) -> bool:
    """Whether `text` has the form `architecture.runtime-precision.hardware`."""
    return _VARIANT.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether `text` has the form `model@number`."""
    return _VERSION.fullmatch(text) is not None


def version_target(model: str, version: int) -> str:
    """What a client names to have one version of a model answer: `textcnn@2`."""
    return f"{model}@{version}"


def check_name(kind: str, text: str) -> str:
    """Return `text`, or raise `InvalidRequest` that says what a `kind` of name must look like."""
    if is_name(text):
        return text
    raise InvalidRequest(
        f"{kind} name {text[:80]!r} is not allowed: use 1 to {MAX_NAME} of a-z, 0-9 and '-', "
        "starting and ending with a letter or digit"
    )


def variant_name(architecture: str, runtime: str, precision: str, hardware: str) -> str:
    """Name of a variant, for example `textcnn.onnx-int8.cpu`."""
    return f"{check_name('architecture', architecture)}.{runtime}-{precision}.{hardware}"

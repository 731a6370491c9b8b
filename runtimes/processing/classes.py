"""Steps after a model: probabilities from scores, and the best classes by name."""

from pathlib import Path
from typing import Final

import numpy as np

from runtimes.padding import Arrays
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.processing import TopClasses
from schemas.tensors import bytes_array

CLASS: Final = "class"
LABEL: Final = "label"


class SoftmaxScores:
    """Step that replaces scores by probabilities."""

    def __call__(self, outputs: Arrays, scores: str) -> Arrays:
        """Return the outputs with `scores` as probabilities."""
        values = outputs[scores].astype(np.float32, copy=False)
        grown = np.exp(values - values.max(axis=-1, keepdims=True))
        return outputs | {scores: grown / grown.sum(axis=-1, keepdims=True)}


class BestClasses:
    """Step that adds the classes with the highest scores, the best first."""

    def __init__(self, step: TopClasses) -> None:
        """Read the names of the classes, if the step has any.

        Raises:
            OperatorError: the file of the names cannot be read.
            InvalidRequest: it contains no name.
        """
        self._count = step.count
        self._labels = bytes_array(read_class_names(Path(step.labels))) if step.labels else None

    def __call__(self, outputs: Arrays, scores: str) -> Arrays:
        """Return the outputs with the best classes added."""
        values = outputs[scores]
        best = np.argsort(-values, axis=-1, kind="stable")[:, : self._count]
        if self._labels is None:
            return outputs | {CLASS: best.astype(np.int64)}
        if values.shape[-1] != len(self._labels):
            raise InvalidRequest(f"there are {len(self._labels)} labels for {values.shape[-1]} scores")
        return outputs | {LABEL: self._labels[best]}


def read_class_names(file: Path) -> tuple[str, ...]:
    """Read the names of the classes, one per line, in the order of the scores.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is not text, or contains no name.
    """
    try:
        names = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.name} is not a text: {error}") from None
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InvalidRequest(f"{file.name} has no class names; it must have one on each line")
    return tuple(names)

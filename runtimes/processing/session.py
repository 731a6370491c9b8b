"""A model in memory with its steps around it: to whoever computes with it, it is a session like any other.

    BYTES of the clients -> before, one by one -> batches of about one length -> the model -> after -> outputs

An input that cannot be read is no reason to fail the others: it is named (`RefusedRows`) before anything is computed,
so that the rest can be computed without it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.padding import FACTOR, Arrays, row_size, size_groups, stack_padded
from runtimes.processing.classes import BestClasses, SoftmaxScores
from runtimes.processing.image import ImageDecoder
from runtimes.processing.tokenise import TextTokeniser
from runtimes.protocol import Session, Tensors
from schemas.errors import InvalidRequest
from schemas.rows.processing import Processing, Softmax, Tokenise
from schemas.rows.tensor_spec import TensorSpec


class BeforeStep(Protocol):
    """What makes the model's tensors of one client's input."""

    @property
    def fill(self) -> Mapping[str, int]:
        """Numbers that pad, by the name of the tensor, where they are not 0."""
        ...

    def __call__(self, value: bytes) -> Arrays:
        """A batch of one; raises `InvalidRequest` where the input is no such thing."""
        ...


class RefusedRows(Exception):
    """Inputs of a batch that cannot be read, by their number in it; nothing was computed."""

    def __init__(self, errors: dict[int, InvalidRequest]) -> None:
        super().__init__("; ".join(map(str, errors.values())))
        self.errors = errors


class ProcessedSession:
    """A session that takes what clients send and gives what they are promised."""

    def __init__(self, session: Session, processing: Processing) -> None:
        """Put `processing`, whose files are paths here, around the session of a model; blocks.

        Raises:
            OperatorError: a package is not installed.
            InvalidRequest: a file is not what it should be, or the steps do not fit the model.
        """
        self._session = session
        self._input = processing.before.input
        self._scores = processing.scores
        self._before = load_before(processing, processing.tensors)
        self._after = [SoftmaxScores() if isinstance(step, Softmax) else BestClasses(step) for step in processing.after]
        self._factor = FACTOR
        """Most times its own size to which an input is padded."""

    def mix_lengths(self, allowed: bool) -> None:
        """Compute inputs of different lengths together, padded, or each length for itself."""
        self._factor = FACTOR if allowed else 1.0

    def prepared(self, values: Sequence[bytes]) -> list[Arrays]:
        """The model's tensors for each of the inputs.

        Raises:
            RefusedRows: some cannot be read.
        """
        rows: list[Arrays] = []
        errors: dict[int, InvalidRequest] = {}
        for number, value in enumerate(values):
            try:
                rows.append(self._before(value))
            except InvalidRequest as error:
                errors[number] = error
        if errors:
            raise RefusedRows(errors)
        return rows

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; raises `RefusedRows` where some of it cannot be read."""
        rows = self.prepared(inputs[self._input].reshape(-1).tolist())
        groups = size_groups([row_size(row) for row in rows], self._factor)
        parts = [
            self._session.infer(stack_padded([rows[index] for index in group], self._before.fill)) for group in groups
        ]
        outputs = _in_order(groups, parts)
        for step in self._after:
            outputs = step(outputs, self._scores)
        return outputs

    @property
    def model(self) -> Session:
        """The session of the model itself."""
        return self._session

    @property
    def fill(self) -> Mapping[str, int]:
        """Numbers that pad, by the name of the model's input."""
        return self._before.fill

    def close(self) -> None:
        """Free the memory; the session is not used again."""
        self._session.close()


def load_before(processing: Processing, tensors: Sequence[TensorSpec]) -> BeforeStep:
    """Load the step before the model; its errors say what does not fit."""
    step = processing.before
    return TextTokeniser(step, tensors) if isinstance(step, Tokenise) else ImageDecoder(step, tensors)


def _in_order(groups: Sequence[Sequence[int]], parts: Sequence[Tensors]) -> Arrays:
    """Put what was computed in groups back into the order of the batch."""
    order = np.argsort([index for group in groups for index in group])
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

"""A model in memory with its processing steps, with the interface of any session.

    BYTES of the clients -> step before, one by one -> batches of similar length -> the model -> steps after -> outputs

An input that cannot be read does not fail the others. `RefusedRows` names it before anything is computed, so that the
caller can compute the rest without it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.padding import FACTOR, Arrays, row_size, size_groups, stack_padded
from runtimes.processing.steps import BestClasses, ImageDecoder, SoftmaxScores, TextTokeniser
from runtimes.protocol import Session, Tensors
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Processing, Softmax, Tokenise
from schemas.signature import TensorSpec


class BeforeStep(Protocol):
    """Step that makes the model's tensors from one client's input."""

    @property
    def fill(self) -> Mapping[str, int]:
        """Padding values other than 0, by tensor name."""
        ...

    def __call__(self, value: bytes) -> Arrays:
        """Return a batch of one; raises `InvalidRequest` if the input cannot be read."""
        ...


class RefusedRows(Exception):
    """Error: inputs of a batch, by row number, cannot be read; nothing was computed."""

    def __init__(self, errors: dict[int, InvalidRequest]) -> None:
        super().__init__("; ".join(map(str, errors.values())))
        self.errors = errors


class ProcessedSession:
    """Session that takes clients' inputs and returns the task's outputs."""

    def __init__(self, session: Session, processing: Processing) -> None:
        """Put `processing`, whose files are local paths, around the session of a model; blocks.

        Raises:
            OperatorError: a package is not installed.
            InvalidRequest: a file is invalid, or the steps do not fit the model.
        """
        self._session = session
        self._input = processing.before.input
        self._scores = processing.scores
        self._before = load_before(processing, processing.tensors)
        self._after = [SoftmaxScores() if isinstance(step, Softmax) else BestClasses(step) for step in processing.after]
        self._factor = FACTOR
        """Largest factor by which padding may extend an input."""

    def mix_lengths(self, allowed: bool) -> None:
        """Set if inputs of different lengths are padded and computed together."""
        self._factor = FACTOR if allowed else 1.0

    def prepared(self, values: Sequence[bytes]) -> list[Arrays]:
        """Return the model's tensors for each of the inputs.

        Raises:
            RefusedRows: some inputs cannot be read.
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
        """Compute one batch; raises `RefusedRows` if some inputs cannot be read."""
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
        """Session of the model, without the steps."""
        return self._session

    @property
    def fill(self) -> Mapping[str, int]:
        """Padding values other than 0, by the name of the model's input."""
        return self._before.fill

    def close(self) -> None:
        """Free the memory; the session must not be used again."""
        self._session.close()


def load_before(processing: Processing, tensors: Sequence[TensorSpec]) -> BeforeStep:
    """Load the step before the model; its errors describe the mismatch."""
    step = processing.before
    return TextTokeniser(step, tensors) if isinstance(step, Tokenise) else ImageDecoder(step, tensors)


def _in_order(groups: Sequence[Sequence[int]], parts: Sequence[Tensors]) -> Arrays:
    """Put the outputs of groups back into the order of the batch."""
    order = np.argsort([index for group in groups for index in group])
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

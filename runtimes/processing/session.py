"""A model in memory with its processing steps, with the interface of any session.

    BYTES of the clients -> step before, one by one -> batches of similar length -> the model -> steps after -> outputs

Steps after the model get the padded batch with the length of each input. Then padding is blanked, and the outputs of
all batches are joined.

An input that cannot be read does not fail the others. `RefusedRows` names it before anything is computed, so that the
caller can compute the rest without it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.padding import FACTOR, Arrays, join_rows, row_size, size_groups, stack_padded
from runtimes.processing.outputs import LENGTHS, OFFSETS, SEQUENCE, processed_outputs
from runtimes.processing.steps import (
    IDS,
    BestClasses,
    ImageDecoder,
    Lengths,
    PooledTokens,
    SoftmaxScores,
    TextTokeniser,
)
from runtimes.protocol import Session, Tensors
from schemas.errors import InvalidRequest
from schemas.rows.catalog import PoolTokens, Processing, Softmax, Tokenise, TopClasses
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
        self.outputs = processed_outputs(processing, processing.returned, self._scores) if processing.returned else ()
        """Specifications of the outputs; empty: unknown."""
        self._before = load_before(processing, processing.tensors, self.outputs)
        self._after = [load_after(step) for step in processing.after]
        self._own = frozenset(spec.name for spec in processing.returned)
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
        parts = [self._computed([rows[index] for index in group]) for group in groups]
        order = np.argsort([index for group in groups for index in group])
        return {name: array[order] for name, array in join_rows(parts, self.outputs).items()}

    def _computed(self, rows: Sequence[Arrays]) -> Arrays:
        """Compute rows as one batch, with all steps; sequences are blank behind the end of each row."""
        lengths = np.array([row[IDS].shape[1] if IDS in row else 1 for row in rows], np.int64)
        inputs = stack_padded(rows, self._before.fill)
        offsets = inputs.pop(OFFSETS, None)
        found = self._session.infer(inputs)
        outputs = {name: array for name, array in found.items() if not self._own or name in self._own}
        for step in self._after:
            outputs = step(outputs, self._scores, lengths)
        added = {LENGTHS: lengths, OFFSETS: offsets}
        outputs |= {spec.name: array for spec in self.outputs if (array := added.get(spec.name)) is not None}
        for spec in self.outputs:
            if SEQUENCE in spec.axes and spec.name in outputs:
                outputs[spec.name] = _blanked(outputs[spec.name], lengths, spec.sequences[SEQUENCE])
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


def load_before(
    processing: Processing, tensors: Sequence[TensorSpec], outputs: Sequence[TensorSpec] = ()
) -> BeforeStep:
    """Load the step before the model, for the outputs of all steps; its errors describe the mismatch."""
    step = processing.before
    if isinstance(step, Tokenise):
        return TextTokeniser(step, tensors, offsets=any(spec.name == OFFSETS for spec in outputs))
    return ImageDecoder(step, tensors)


def load_after(step: Softmax | TopClasses | PoolTokens) -> SoftmaxScores | BestClasses | PooledTokens:
    """Load a step after the model; its errors describe the file that cannot be read."""
    match step:
        case Softmax():
            return SoftmaxScores()
        case TopClasses():
            return BestClasses(step)
        case PoolTokens():
            return PooledTokens(step)


def _blanked(array: NDArray[Any], lengths: Lengths, axis: int) -> NDArray[Any]:
    """Return a batch of sequences with zeros, or empty texts, behind the end of each."""
    behind = np.arange(array.shape[axis]) >= lengths[:, None]
    if not behind.any():
        return array
    blanked = array.copy()
    np.moveaxis(blanked, axis, 1)[behind] = b"" if array.dtype.kind == "O" else 0
    return blanked

"""Decides which variants are refused, from their outputs alone. Pure.

The reference (the model as registered) is refused, and nothing is registered, if an output has another datatype or
shape than the model says, or a NaN; or if what it computes for an input depends on the others in the batch.

A variant made from it is refused if an output has another form or a NaN, or if it is no longer the same model:
* with labels, where its accuracy is more than `most_lost` below the reference's. A loss up to that is a
  legitimate trade, and the profile says how large it is;
* without labels, where it agrees with the reference on fewer than all but `most_lost` of the inputs.

Two outputs agree on an input if the largest score is the same one; where an output is no list of scores, if the values
differ by at most 5 % of the reference's range.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.samples import Arrays, Samples
from registry.signature import fits
from schemas.errors import InvalidRequest
from schemas.rows.catalog import AccuracySource, TensorSpec
from schemas.tensors import datatype_of

MOST_ACCURACY_LOST: Final = 0.05
_TOLERANCE: Final = 0.05
_ROUNDING: Final = 1e-9
_BATCH_TOLERANCE: Final = 1e-2


class Accuracy(msgspec.Struct, frozen=True):
    """How often a variant is right, and how that is known."""

    value: float
    """Measured, or for a declared one the least that the agreement with the reference allows."""
    source: AccuracySource
    samples: int = 0
    """Labelled inputs behind a measured accuracy."""


class VerifiedReference(msgspec.Struct, frozen=True):
    """The model as registered, found right: what its variants are compared with."""

    samples: Samples
    specs: tuple[TensorSpec, ...]
    """Outputs that the task promises."""
    scores: str
    """The output that holds the classes' scores."""
    outputs: Arrays
    accuracy: Accuracy


class Verification(msgspec.Struct, frozen=True):
    """What the outputs of a variant say of it."""

    accuracy: Accuracy
    refusal: str = ""
    """Why it is refused; empty if it is right."""


def verify_reference(
    samples: Samples,
    specs: tuple[TensorSpec, ...],
    scores: str,
    outputs: Arrays,
    single_outputs: Arrays,
    declared_accuracy: float | None,
) -> VerifiedReference:
    """Verify the model as it was registered; `single_outputs` are its first ones, computed one by one.

    Raises:
        InvalidRequest: it is wrong.
    """
    wrong = malformed(outputs, specs, samples.count) or _depends_on_batch(outputs, single_outputs)
    if wrong:
        raise InvalidRequest(f"the model is refused: {wrong}")
    if samples.labels is not None:
        if samples.labels.max() >= outputs[scores].shape[1]:
            raise InvalidRequest(f"label {samples.labels.max()} is beyond the {outputs[scores].shape[1]} scores")
        accuracy = _measured(outputs[scores], samples.labels)
    elif declared_accuracy is not None:
        accuracy = Accuracy(declared_accuracy, AccuracySource.DECLARED)
    else:
        raise InvalidRequest("give a labelled file by --validation, or declare the accuracy by --accuracy")
    return VerifiedReference(samples, specs, scores, outputs, accuracy)


def verify_variant(
    reference: VerifiedReference, outputs: Arrays, most_lost: float = MOST_ACCURACY_LOST
) -> Verification:
    """Verify a variant by its outputs for the inputs that the reference had."""
    wrong = malformed(outputs, reference.specs, reference.samples.count)
    if wrong:
        return Verification(Accuracy(0.0, reference.accuracy.source), wrong)
    scores, labels, best = outputs[reference.scores], reference.samples.labels, reference.accuracy.value
    if labels is None:
        agreed = agreement(scores, reference.outputs[reference.scores])
        accuracy = Accuracy(max(0.0, best - (1.0 - agreed)), AccuracySource.DECLARED)
        few = 1.0 - agreed > most_lost + _ROUNDING
        return Verification(accuracy, f"it agrees with the reference on only {agreed:.1%} of the inputs" if few else "")
    accuracy = _measured(scores, labels)
    lost = best - accuracy.value > most_lost + _ROUNDING
    return Verification(accuracy, f"its accuracy is {accuracy.value:.1%}, the reference's {best:.1%}" if lost else "")


def malformed(outputs: Arrays, specs: Sequence[TensorSpec], rows: int) -> str:
    """What is wrong with the form of the outputs; empty if nothing is."""
    for spec in specs:
        if spec.name not in outputs:
            return f"there is no output {spec.name!r}"
        array = outputs[spec.name]
        if datatype_of(array) != spec.datatype:
            return f"output {spec.name!r} is {datatype_of(array)} instead of {spec.datatype}"
        if not fits(array.shape, (rows, *spec.shape[1:])):
            return f"output {spec.name!r} has the shape {list(array.shape)} for {rows} inputs"
        if array.dtype.kind == "f" and np.isnan(array).any():
            return f"output {spec.name!r} holds NaN"
    return ""


def agreement(outputs: NDArray[Any], reference: NDArray[Any]) -> float:
    """Share of the inputs, or of the values where there are no scores, that come out the same."""
    if reference.ndim == 2 and reference.shape[1] > 1 and reference.dtype.kind in "fiu":
        return float(np.mean(outputs.argmax(axis=1) == reference.argmax(axis=1)))
    if reference.dtype.kind not in "fiu":
        return float(np.mean(outputs == reference))
    wide = reference.astype(np.float64)
    return float(np.mean(np.abs(outputs - wide) <= _TOLERANCE * max(np.ptp(wide), 1e-9)))


def _measured(scores: NDArray[Any], labels: NDArray[np.int64]) -> Accuracy:
    return Accuracy(float(np.mean(scores.argmax(axis=1) == labels)), AccuracySource.MEASURED, len(labels))


def _depends_on_batch(outputs: Arrays, single: Arrays) -> str:
    for name, alone in single.items():
        together = outputs[name][: len(alone)]
        if alone.shape != together.shape:
            return f"output {name!r} has another shape for one input than for several"
        if alone.dtype.kind == "f" and not np.allclose(
            alone, together, rtol=_BATCH_TOLERANCE, atol=_BATCH_TOLERANCE * float(np.ptp(together)), equal_nan=True
        ):
            return f"output {name!r} of an input depends on the other inputs in its batch"
    return ""

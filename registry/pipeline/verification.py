"""Decides which variants are refused, from their outputs alone. Pure, but for a measure of the person's own.

The reference (the model as registered) is refused, and nothing is registered, if an output has another datatype or
shape than the model says, or a NaN; or if what it computes for an input depends on the others in the batch.

A variant made from it is refused if an output has another form or a NaN, or if it is no longer the same model:
* with labels, or a reference's outputs for labels, where its quality by the task's measure is more than `most_lost`
  below the reference's. A loss up to that is a legitimate trade, and the profile says how large it is;
* with neither, where it agrees with the reference on fewer than all but `most_lost` of the inputs.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from registry.labelled_files import Arrays
from registry.quality import RELATIVE, agreement, check_scores, quality
from registry.samples import Samples
from registry.signature import fits
from schemas.errors import InvalidRequest
from schemas.rows.catalog import AccuracySource, TensorSpec
from schemas.tensors import datatype_of

MOST_ACCURACY_LOST: Final = 0.05
_ROUNDING: Final = 1e-9
_BATCH_TOLERANCE: Final = 1e-2


class Accuracy(msgspec.Struct, frozen=True):
    """How good a variant is by its task's measure, and how that is known."""

    value: float
    """Measured, or for a declared one the least that the agreement with the reference allows."""
    source: AccuracySource
    samples: int = 0
    """Inputs behind a measured accuracy."""


class Judgement(msgspec.Struct, frozen=True):
    """What is measured, and by what."""

    measure: str
    output: str
    """The output that is measured."""
    doubtful: bool = False
    """Whether the outputs must show that they are scores of classes, as was guessed."""


class VerifiedReference(msgspec.Struct, frozen=True):
    """The model as registered, found right: what its variants are compared with."""

    samples: Samples
    """Its labels are a reference's outputs where nothing else says what is right."""
    specs: tuple[TensorSpec, ...]
    """Outputs that the task promises."""
    judgement: Judgement
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
    judgement: Judgement,
    outputs: Arrays,
    single_outputs: Arrays,
    declared_accuracy: float | None = None,
    others: Arrays | None = None,
) -> VerifiedReference:
    """Verify the model as it was registered; `single_outputs` are its first ones, computed one by one.

    `others` are the outputs of the task's reference, if that is another model's variant.

    Raises:
        InvalidRequest: it is wrong.
    """
    wrong = malformed(outputs, specs, samples.count) or _depends_on_batch(outputs, single_outputs)
    if wrong:
        raise InvalidRequest(f"the model is refused: {wrong}")
    measured = outputs[judgement.output]
    if samples.labels is None and declared_accuracy is None:
        if judgement.measure not in RELATIVE or not samples.real:
            raise InvalidRequest("give a labelled file by --validation, or declare the accuracy by --accuracy")
        samples = replace(samples, labels=(others or outputs)[judgement.output])
    if samples.labels is not None:
        if judgement.doubtful:
            check_scores(judgement.output, measured, samples.labels)
        value = quality(judgement.measure, measured, samples.labels)
        accuracy = Accuracy(value, AccuracySource.MEASURED, samples.count)
    else:
        accuracy = Accuracy(declared_accuracy or 0.0, AccuracySource.DECLARED)
    return VerifiedReference(samples, specs, judgement, outputs, accuracy)


def verify_variant(
    reference: VerifiedReference, outputs: Arrays, most_lost: float = MOST_ACCURACY_LOST
) -> Verification:
    """Verify a variant by its outputs for the inputs that the reference had."""
    wrong = malformed(outputs, reference.specs, reference.samples.count)
    if wrong:
        return Verification(Accuracy(0.0, reference.accuracy.source), wrong)
    measure, output = reference.judgement.measure, reference.judgement.output
    labels, best = reference.samples.labels, reference.accuracy.value
    if labels is None:
        agreed = agreement(outputs[output], reference.outputs[output])
        accuracy = Accuracy(max(0.0, best - (1.0 - agreed)), AccuracySource.DECLARED)
        few = 1.0 - agreed > most_lost + _ROUNDING
        return Verification(accuracy, f"it agrees with the reference on only {agreed:.1%} of the inputs" if few else "")
    value = quality(measure, outputs[output], labels)
    accuracy = Accuracy(value, AccuracySource.MEASURED, reference.samples.count)
    lost = best - value > most_lost + _ROUNDING
    return Verification(accuracy, f"its {measure} is {value:.1%}, the reference's {best:.1%}" if lost else "")


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

"""Decides from outputs alone which variants are refused. Pure, except for a measure of the user's own.

The measure is that of the task or of the user, else the one that outputs and labels suggest.

The reference (the model as registered) is refused, and nothing is registered, if an output has another datatype or
shape than the model declares, or contains NaN; or if its output for an input depends on the other inputs in the batch.

A variant made from it is refused if an output has another form or contains NaN, or if it differs too much from the
reference:
* with labels, or with a reference's outputs as labels: if its quality by the task's measure is more than `most_lost`
  below the reference's. A smaller loss is a valid trade, and the profile shows it;
* without either: if it agrees with the reference on less than `1 - most_lost` of the inputs.

Of an output along a sequence, each real position counts as an input, and padding as nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.labelled_files import Arrays
from registry.pipeline.inspection import Inspection
from registry.quality import RELATIVE, agreement, check_scores, guess_measure, quality
from registry.request import MOST_ACCURACY_LOST, Registration
from registry.samples import Samples
from registry.signature import fits
from runtimes.processing.outputs import LENGTHS
from runtimes.processing.steps import MASK
from schemas.errors import InvalidRequest
from schemas.rows.catalog import ACCURACY, AccuracySource, Task, TensorSpec
from schemas.tensors import datatype_of

_ROUNDING: Final = 1e-9
_BATCH_TOLERANCE: Final = 1e-2


class Accuracy(msgspec.Struct, frozen=True):
    """Quality of a variant by its task's measure, and the source of that value."""

    value: float
    """Measured; or, if declared, the lower bound that the agreement with the reference allows."""
    source: AccuracySource
    samples: int = 0
    """Number of inputs behind a measured accuracy."""


class Judgement(msgspec.Struct, frozen=True):
    """Measure of a registration, and the measured output."""

    measure: str
    output: str
    """Output that is measured."""
    doubtful: bool = False
    """True if the outputs must prove to be scores of classes, because the measure was guessed."""


class VerifiedReference(msgspec.Struct, frozen=True):
    """The verified reference, with which its variants are compared."""

    samples: Samples
    """Inputs; their labels are a reference's outputs if there are no others."""
    specs: tuple[TensorSpec, ...]
    """Outputs that the task promises."""
    judgement: Judgement
    outputs: Arrays
    accuracy: Accuracy

    def measured(self, outputs: Arrays) -> NDArray[Any]:
        """Return the measured output among `outputs`, at the real positions if it is along a sequence."""
        return _at_positions(outputs, self.samples.inputs, self.specs, self.judgement.output)


class Verification(msgspec.Struct, frozen=True):
    """Result of the verification of a variant."""

    accuracy: Accuracy
    refusal: str = ""
    """Why the variant is refused; empty if it is accepted."""


def verify_reference(
    samples: Samples,
    specs: tuple[TensorSpec, ...],
    judgement: Judgement,
    outputs: Arrays,
    single_outputs: Arrays,
    declared_accuracy: float | None = None,
    others: Arrays | None = None,
) -> VerifiedReference:
    """Verify the model as registered; `single_outputs` are its first outputs, computed one by one.

    `others` are the outputs of the task's reference, if that belongs to another model.

    Raises:
        InvalidRequest: the model is refused.
    """
    wrong = malformed(outputs, specs, samples.count) or _depends_on_batch(outputs, single_outputs, specs)
    if wrong:
        raise InvalidRequest(f"the model was refused: {wrong}")
    measured = _at_positions(outputs, samples.inputs, specs, judgement.output)
    if samples.labels is None and declared_accuracy is None:
        if judgement.measure not in RELATIVE or not samples.real:
            raise InvalidRequest("give a labelled file by --validation, or declare the accuracy by --accuracy")
        labels = _at_positions(others or outputs, samples.inputs, specs, judgement.output)
        if len(labels) != len(measured):
            raise InvalidRequest(
                f"output {judgement.output!r} cannot be compared with the task's reference: the models divide texts "
                "into different tokens; register it for a task of its own"
            )
        samples = replace(samples, labels=labels)
    elif samples.labels is not None:
        samples = replace(samples, labels=_labels_at_positions(samples.labels, outputs, samples, specs, judgement))
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
    """Verify a variant by its outputs for the same inputs as the reference."""
    wrong = malformed(outputs, reference.specs, reference.samples.count)
    if wrong:
        return Verification(Accuracy(0.0, reference.accuracy.source), wrong)
    measure, measured = reference.judgement.measure, reference.measured(outputs)
    labels, best = reference.samples.labels, reference.accuracy.value
    if labels is None:
        agreed = agreement(measured, reference.measured(reference.outputs))
        accuracy = Accuracy(max(0.0, best - (1.0 - agreed)), AccuracySource.DECLARED)
        few = 1.0 - agreed > most_lost + _ROUNDING
        return Verification(accuracy, f"it agrees with the reference on only {agreed:.1%} of the inputs" if few else "")
    value = quality(measure, measured, labels)
    accuracy = Accuracy(value, AccuracySource.MEASURED, reference.samples.count)
    lost = best - value > most_lost + _ROUNDING
    return Verification(accuracy, f"its {measure} is {value:.1%}, the reference's {best:.1%}" if lost else "")


def _at_positions(outputs: Arrays, inputs: Arrays, specs: Sequence[TensorSpec], output: str) -> NDArray[Any]:
    """Return an output; if it is along a sequence, its real positions in one axis instead of rows and positions."""
    array, mask = outputs[output], _real_positions(outputs, inputs, specs, output)
    return array if mask is None else array[mask]


def _labels_at_positions(
    labels: NDArray[Any], outputs: Arrays, samples: Samples, specs: Sequence[TensorSpec], judgement: Judgement
) -> NDArray[Any]:
    mask = _real_positions(outputs, samples.inputs, specs, judgement.output)
    return labels if mask is None or labels.shape[:2] != mask.shape else labels[mask]


def _real_positions(
    outputs: Arrays, inputs: Arrays, specs: Sequence[TensorSpec], output: str
) -> NDArray[np.bool_] | None:
    """Return a mask of rows and positions that are no padding; None for an output that is not along a sequence."""
    if not any(spec.name == output and 1 in spec.sequences.values() for spec in specs):
        return None
    rows, longest = outputs[output].shape[:2]
    if LENGTHS in outputs:
        return np.arange(longest) < outputs[LENGTHS][:, None]
    mask = inputs.get(MASK)
    return mask != 0 if mask is not None and mask.shape == (rows, longest) else np.full((rows, longest), True)


def malformed(outputs: Arrays, specs: Sequence[TensorSpec], rows: int) -> str:
    """Return the first error in the form of the outputs; empty if there is none."""
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


def _depends_on_batch(outputs: Arrays, single: Arrays, specs: Sequence[TensorSpec]) -> str:
    sequences = {spec.name: spec.sequences.values() for spec in specs}
    for name, alone in single.items():
        together = outputs[name][: len(alone)]
        for axis in sequences.get(name, ()):
            together = together.take(range(min(alone.shape[axis], together.shape[axis])), axis)
        if alone.shape != together.shape:
            return f"output {name!r} has another shape for one input than for several"
        if alone.dtype.kind == "f" and not np.allclose(
            alone, together, rtol=_BATCH_TOLERANCE, atol=_BATCH_TOLERANCE * float(np.ptp(together)), equal_nan=True
        ):
            return f"output {name!r} of an input depends on the other inputs in its batch"
    return ""


def judge(
    request: Registration, task: Task | None, found: Inspection, samples: Samples, note: Callable[[str], None]
) -> Judgement:
    """Return the output and the measure: as the task or the user says, else as outputs and labels suggest, with a note.

    Raises:
        InvalidRequest: several measures are possible.
    """
    output, measure = found.measured.name, task.measure if task else request.measure
    if len(found.signature.outputs) > 1 and not request.output and not (task and task.measured_output):
        note(f"the output {output!r} is measured (change it by --output)")
    if measure is not None:
        return Judgement(measure, output)
    if samples.labels is None:
        return Judgement(ACCURACY, output)
    guess = guess_measure(found.measured, samples.labels)
    note(f"{request.task} is measured by {guess.measure}: {guess.why} (change it by --measure)")
    return Judgement(guess.measure, output, guess.doubtful)


def is_relative(request: Registration, samples: Samples, judgement: Judgement) -> bool:
    """Return true if the outputs of a reference replace labels."""
    return samples.labels is None and request.accuracy is None and judgement.measure in RELATIVE


def new_task(request: Registration, found: Inspection, samples: Samples, judgement: Judgement) -> Task:
    """Return the task that its first model makes."""
    return Task(
        name=request.task,
        inputs=tuple(replace(spec, longest=None) for spec in found.signature.inputs),  # may be longer in other models
        outputs=found.signature.outputs,
        partitions=request.partitions,
        measure=judgement.measure,
        measured_output=judgement.output,
        classes=samples.classes,
    )

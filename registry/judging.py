"""Chooses the measure of a registration, and makes its task. Pure."""

from collections.abc import Callable

from msgspec.structs import replace

from registry.pipeline.inspection import Inspection
from registry.pipeline.verification import Judgement
from registry.quality import RELATIVE, guess_measure
from registry.registration import Registration
from registry.samples import Samples
from schemas.rows.catalog import ACCURACY, Task


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

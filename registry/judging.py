"""How a registration's quality is judged, and the task that it makes: pure, of what was asked, found and read."""

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
    """What is measured: as the task says, as the person says, or as outputs and labels suggest, which is noted.

    Raises:
        InvalidRequest: it is not clear what is meant.
    """
    output, measure = found.measured.name, task.measure if task else request.measure
    if len(found.signature.outputs) > 1 and not request.output and not (task and task.measured_output):
        note(f"the output {output!r} is measured (--output says otherwise)")
    if measure is not None:
        return Judgement(measure, output)
    if samples.labels is None:
        return Judgement(ACCURACY, output)
    guess = guess_measure(found.measured, samples.labels)
    note(f"{request.task} is measured by {guess.measure}: {guess.why} (--measure says otherwise)")
    return Judgement(guess.measure, output, guess.doubtful)


def is_relative(request: Registration, samples: Samples, judgement: Judgement) -> bool:
    """Whether a reference's outputs stand for labels."""
    return samples.labels is None and request.accuracy is None and judgement.measure in RELATIVE


def new_task(request: Registration, found: Inspection, samples: Samples, judgement: Judgement) -> Task:
    """The task that its first model makes."""
    return Task(
        name=request.task,
        inputs=tuple(replace(spec, longest=None) for spec in found.signature.inputs),  # which other models may exceed
        outputs=found.signature.outputs,
        partitions=request.partitions,
        measure=judgement.measure,
        measured_output=judgement.output,
        classes=samples.classes,
    )

"""What is to be done, in the registry's words: the files placed, the request made, and registered as anyone would."""

import asyncio

from registrar.given_files import GivenFiles
from registry.builds.chosen_steps import BuildChoice, RegistryServices
from registry.pipeline.verification import MOST_ACCURACY_LOST
from registry.registering import (
    DescribeAct,
    register_path,
)
from registry.registration import ProgressSink, Registration
from schemas.registrations import (
    MadeVariant,
    ModelToRegister,
    ToRegister,
)


async def register_as_asked(
    asked: ToRegister, by: str, publisher: str | None, files: GivenFiles, services: RegistryServices,
    progress: ProgressSink, act: DescribeAct,
) -> list[MadeVariant]:  # fmt: skip
    """Register what was asked for; returns the variants.

    Raises:
        InvalidRequest: something is wrong with it.
        Forbidden: it is not the publisher's to register.
        OperatorError: a file, a service or an earlier registration stands in the way.
    """
    progress.step(0, 0, "fetching the files")
    request = await asyncio.to_thread(_model, asked, by, publisher, files)
    choice = BuildChoice(if_no_worker=asked.if_no_worker, again=asked.again)
    return await register_path(request, asked.hardware, choice, services, progress, act)


def _model(asked: ModelToRegister, by: str, publisher: str | None, files: GivenFiles) -> Registration:
    for beside in asked.beside:
        files.place(beside, "model")
    file = files.place(asked.file, "model")
    assert file is not None, "every model has a file"
    return Registration(
        architecture=asked.name,
        task=asked.task,
        file=file,
        validation=files.data(asked.validation, "validation"),
        calibration=files.data(asked.calibration, "calibration"),
        accuracy=asked.accuracy,
        measure=asked.measure,
        classes=asked.classes,
        output=asked.output,
        batch_axes=asked.batch_axes,
        processing=files.processing(asked.processing),
        max_batch=asked.max_batch,
        partitions=asked.partitions,
        threads=asked.threads,
        cores=asked.cores,
        variants=asked.variants,
        max_accuracy_loss=MOST_ACCURACY_LOST if asked.max_accuracy_loss is None else asked.max_accuracy_loss,
        again=asked.again,
        hold=asked.hold,
        asked_by=by,
        access=asked.access,
        publisher=publisher,
    )

"""Executes one claimed registration: stages its files, builds the request and calls the registry."""

import asyncio

from msgspec.structs import replace

from registrar.staged_files import StagedFiles
from registry.builds.open_executor import BuildChoice, RegistryServices
from registry.composites.cascades import CascadeRequest
from registry.composites.chains import ChainRequest
from registry.composites.proposing import requests_for
from registry.pipeline.verification import MOST_ACCURACY_LOST
from registry.registering import (
    DescribeAct,
    register_path,
)
from registry.registering_composites import propose_cascades_of, register_cascades, register_one_chain
from registry.registration import ProgressSink, Registration
from schemas.registrations import (
    CascadeToRegister,
    ChainToRegister,
    ModelToRegister,
    RegisteredVariant,
    ToRegister,
)


async def execute_registration(
    asked: ToRegister, by: str, publisher: str | None, files: StagedFiles, services: RegistryServices,
    progress: ProgressSink, act: DescribeAct,
) -> list[RegisteredVariant]:  # fmt: skip
    """Register a model, chain or cascade as requested; return its variants.

    Raises:
        InvalidRequest: the request or one of its files is wrong.
        Forbidden: the publisher may not register this.
        OperatorError: a file, a service or an earlier registration prevents it.
    """
    progress.step(0, 0, "fetching the files")
    choice = BuildChoice(if_no_worker=asked.if_no_worker, again=asked.again)
    match asked:
        case ModelToRegister():
            request = await asyncio.to_thread(_model, asked, by, publisher, files)
            return await register_path(request, asked.hardware, choice, services, progress, act)
        case ChainToRegister():
            chain = await asyncio.to_thread(_chain, asked, publisher, files)
            return await register_one_chain(chain, services, choice, progress, act)
        case CascadeToRegister():
            cascade = await asyncio.to_thread(_cascade, asked, publisher, files)
            cascades = [cascade] if cascade.first else await _found(cascade, services, choice, progress)
            return await register_cascades(cascades, services, choice, progress, act)


async def _found(
    wanted: CascadeRequest, services: RegistryServices, choice: BuildChoice, progress: ProgressSink
) -> list[CascadeRequest]:
    data = wanted.validation, wanted.calibration
    proposals = await propose_cascades_of(wanted.task, *data, wanted.publisher, services, choice, progress)
    for one in proposals:
        progress.note(f"{one.first}, then {one.then}: as accurate as {one.beats}, in {one.saving:.0%} less time")
    if not proposals:
        progress.note(f"no cascade beats every single variant of {wanted.task}")
    requests = requests_for(wanted.task, proposals, *data, again=wanted.again)
    return [replace(one, access=wanted.access, publisher=wanted.publisher) for one in requests]


def _cascade(asked: CascadeToRegister, publisher: str | None, files: StagedFiles) -> CascadeRequest:
    validation = files.data(asked.validation, "validation")
    assert validation is not None, "every cascade is measured"
    return CascadeRequest(
        task=asked.task,
        first=asked.first or "",
        then=asked.then or "",
        validation=validation,
        calibration=files.data(asked.calibration, "calibration"),
        name=asked.name,
        thresholds=asked.thresholds,
        min_accuracies=asked.min_accuracies,
        output=asked.output,
        confidence=asked.confidence,
        again=asked.again,
        access=asked.access,
        publisher=publisher,
    )


def _chain(asked: ChainToRegister, publisher: str | None, files: StagedFiles) -> ChainRequest:
    return ChainRequest(
        name=asked.name,
        tasks=asked.tasks,
        feeds=asked.feeds,
        through=asked.through,
        validation=files.data(asked.validation, "validation"),
        accuracy=asked.accuracy,
        output=asked.output,
        hardware=asked.hardware,
        again=asked.again,
        access=asked.access,
        publisher=publisher,
    )


def _model(asked: ModelToRegister, by: str, publisher: str | None, files: StagedFiles) -> Registration:
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

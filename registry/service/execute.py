"""Executes one claimed registration: stages its files, builds the request and calls the registry."""

import asyncio
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from registry.builds.open_executor import BuildChoice, RegistryServices
from registry.composites.proposals import requests_for
from registry.registering import DescribeAct, propose_cascades_of, register_cascades, register_one_chain, register_path
from registry.request import MOST_ACCURACY_LOST, CascadeRequest, ChainRequest, ProgressSink, Registration
from registry.service.staged_files import StagedFiles
from schemas.registrations import CascadeToRegister, ChainToRegister, ModelToRegister, RegisteredVariant, ToRegister

RequestT = TypeVar("RequestT", bound=msgspec.Struct)


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
            model = await asyncio.to_thread(_model, asked, by, publisher, files)
            return await register_path(model, asked.hardware, choice, services, progress, act)
        case ChainToRegister():
            validation = await asyncio.to_thread(files.data, asked.validation, "validation")
            chain = _request(ChainRequest, asked, validation=validation, publisher=publisher)
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


def _request(kind: type[RequestT], asked: ToRegister, **own: Any) -> RequestT:
    """Return a request with the options of the same name, those in `own`, and the defaults of the others."""
    same = {name: getattr(asked, name) for name in kind.__struct_fields__ if hasattr(asked, name)}
    return kind(**same | own)


def _cascade(asked: CascadeToRegister, publisher: str | None, files: StagedFiles) -> CascadeRequest:
    return _request(
        CascadeRequest,
        asked,
        first=asked.first or "",
        then=asked.then or "",
        validation=files.data(asked.validation, "validation"),
        calibration=files.data(asked.calibration, "calibration"),
        publisher=publisher,
    )


def _model(asked: ModelToRegister, by: str, publisher: str | None, files: StagedFiles) -> Registration:
    for companion in asked.beside:
        files.place(companion, "model")
    loss = asked.max_accuracy_loss
    return _request(
        Registration,
        asked,
        architecture=asked.name,
        file=files.place(asked.file, "model"),
        validation=files.data(asked.validation, "validation"),
        calibration=files.data(asked.calibration, "calibration"),
        processing=files.processing(asked.processing),
        max_accuracy_loss=MOST_ACCURACY_LOST if loss is None else loss,
        hardware=asked.hardware[0],
        asked_by=by,
        publisher=publisher,
    )

"""Registers models, chains and cascades on the hardware of their variants, and writes the audit records.

The command line calls this in its own process; the registrar calls it for the admin API.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from msgspec.structs import replace

from registry.builds.open_executor import BuildChoice, RegistryServices, open_executor
from registry.composites.cascades import register_cascade
from registry.composites.chains import register_chain
from registry.composites.proposals import CascadeProposal, find_cascades
from registry.importers.imported import ImportedModel, completed
from registry.importers.importing import ImportKind, ImportModel, kind_of
from registry.pipeline.isolation import run_step
from registry.register import register, step_count
from registry.request import CascadeRequest, ChainRequest, ProgressSink, Registration
from schemas.hardware import Hardware
from schemas.registrations import RegisteredVariant
from schemas.rows.audit import AuditAct
from schemas.rows.catalog import Variant
from store.audit import audited
from store.pool import Pool
from store.registry import get_variant, list_profiles


class DescribeAct(Protocol):
    """Builds the audit record of a registration."""

    def __call__(self, subject: str, **detail: object) -> AuditAct:
        """Return the audit act of registering `subject` with these options."""
        ...


async def register_path(
    request: Registration,
    devices: Sequence[Hardware],
    choice: BuildChoice,
    services: RegistryServices,
    progress: ProgressSink,
    act: DescribeAct,
) -> list[RegisteredVariant]:
    """Register the model at the request's path for each hardware type; import it first if it is not a model file.

    Raises:
        InvalidRequest: the model, its samples or the request are wrong.
        OperatorError: a file, a service, the disk or an earlier registration prevents it.
    """

    def show(text: str) -> None:
        progress.step(0, 0, text)

    made: list[Variant] = []
    async with imported(request.file) as found:
        if found is not None:
            for note in (f"{request.file.name} is {found.kind}", *found.notes):
                progress.note(note)
            request = completed(request, found)
        async with open_executor(devices, services, choice, progress.note) as steps:
            requests = [replace(request, hardware=device) for device in steps.hardware]
            for one in requests:
                await step_count(one, steps, show)  # report errors of all requests before the first one starts
            for one in requests:
                asked = {"task": one.task, "file": one.file.name, "hardware": one.hardware, "hold": one.hold}
                async with audited(services.pool, act(one.architecture, **asked)):
                    made = await register(one, services.pool, services.kafka, services.artifacts, progress, steps)
    return await with_profiles(services.pool, made)


@asynccontextmanager
async def imported(path: Path) -> AsyncGenerator[ImportedModel | None]:
    """Yield the import of the file or folder at a path, or None if it is a model file itself.

    The imported file exists while the context is open.
    """
    with TemporaryDirectory(prefix="infaas-import-") as folder:
        if await asyncio.to_thread(kind_of, path) is ImportKind.MODEL_FILE:
            yield None
        else:
            yield await run_step(ImportModel(path, Path(folder) / "model"), ImportedModel)


async def with_profiles(pool: Pool, made: Sequence[Variant]) -> list[RegisteredVariant]:
    """Return the variants with their profiles."""
    return await _completed(pool, [RegisteredVariant(variant=variant) for variant in made])


async def _completed(pool: Pool, made: Sequence[RegisteredVariant]) -> list[RegisteredVariant]:
    rows = await list_profiles(pool, names=[one.variant.name for one in made])
    profiles = {row.variant: row for row in rows}
    return [replace(one, profile=profiles.get(one.variant.name)) for one in made]


async def propose_cascades_of(
    task: str, validation: Path, calibration: Path | None, publisher: str | None, services: RegistryServices,
    choice: BuildChoice, progress: ProgressSink,
) -> tuple[CascadeProposal, ...]:  # fmt: skip
    """Find the cascades that are worth registering; raises as `find_cascades` does."""
    async with open_executor([Hardware.CPU], services, choice, progress.note) as steps:
        return await find_cascades(
            task, validation, calibration, services.pool, services.artifacts, progress, publisher=publisher,
            runner=steps,
        )  # fmt: skip


async def register_cascades(
    requests: Sequence[CascadeRequest], services: RegistryServices, choice: BuildChoice, progress: ProgressSink,
    act: DescribeAct,
) -> list[RegisteredVariant]:  # fmt: skip
    """Register cascades one after the other; raises as `register_cascade` does."""
    made = list[RegisteredVariant]()
    for request in requests:
        stages = {"task": request.task, "first": request.first, "then": request.then}
        devices = await _hardware_of(services.pool, request.first)
        async with (
            audited(services.pool, act(request.name or "", cascade=stages)),
            open_executor(devices, services, choice, progress.note) as steps,
        ):
            made += await register_cascade(request, services.pool, services.kafka, services.artifacts, progress, steps)
    return await _completed(services.pool, made)


async def register_one_chain(
    request: ChainRequest, services: RegistryServices, choice: BuildChoice, progress: ProgressSink, act: DescribeAct
) -> list[RegisteredVariant]:
    """Register a chain; raises as `register_chain` does."""
    async with (
        audited(services.pool, act(request.name, chain=request.tasks)),
        open_executor([Hardware(request.hardware)], services, choice, progress.note) as steps,
    ):
        made = await register_chain(request, services.pool, services.kafka, services.artifacts, progress, steps)
    return await with_profiles(services.pool, made)


async def _hardware_of(pool: Pool, name: str) -> list[Hardware]:
    """Return the hardware type of a variant; empty if it does not exist, which is reported later."""
    variant = await get_variant(pool, name)
    return [] if variant is None else [Hardware(variant.hardware)]

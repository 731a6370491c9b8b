"""Registers a file or folder: imports it if needed, registers its variants, and writes the audit record.

The command line calls this in its own process; a registrar calls it for the admin API.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from msgspec.structs import replace

from registry.builds.open_executor import BuildChoice, RegistryServices, open_executor
from registry.importers.imported import ImportedModel, completed
from registry.importers.importing import ImportKind, ImportModel, kind_of
from registry.pipeline.isolation import run_step
from registry.register import register, step_count
from registry.registration import ProgressSink, Registration
from schemas.hardware import Hardware
from schemas.registrations import RegisteredVariant
from schemas.rows.audit import AuditAct
from schemas.rows.catalog import Variant
from store.audit import audited
from store.pool import Pool
from store.registry import list_profiles


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
    profiles = {row.variant: row for row in await list_profiles(pool, names=[variant.name for variant in made])}
    return [RegisteredVariant(variant=variant, profile=profiles.get(variant.name)) for variant in made]

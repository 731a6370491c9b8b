"""Registers composites on the hardware of their stages, and writes the audit records.

The command line calls this in its own process; a registrar calls it for the admin API.
"""

from collections.abc import Sequence
from pathlib import Path

from registry.builds.open_executor import BuildChoice, RegistryServices, open_executor
from registry.composites.cascades import CascadeRequest, RegisteredCascade, register_cascade
from registry.composites.chains import ChainRequest, register_chain
from registry.composites.proposals import CascadeProposal
from registry.composites.proposing import find_cascades
from registry.registering import DescribeAct, with_profiles
from registry.registration import ProgressSink
from schemas.hardware import Hardware
from schemas.registrations import RegisteredVariant
from store.audit import audited
from store.pool import Pool
from store.registry import get_variant, list_profiles


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
    made = list[RegisteredCascade]()
    for request in requests:
        stages = {"task": request.task, "first": request.first, "then": request.then}
        devices = await _hardware_of(services.pool, request.first)
        async with (
            audited(services.pool, act(request.name or "", cascade=stages)),
            open_executor(devices, services, choice, progress.note) as steps,
        ):
            made += await register_cascade(request, services.pool, services.kafka, services.artifacts, progress, steps)
    rows = await list_profiles(services.pool, names=[one.variant.name for one in made])
    profiles = {row.variant: row for row in rows}
    return [
        RegisteredVariant(variant=one.variant, profile=profiles.get(one.variant.name), calibrated=one.calibrated)
        for one in made
    ]


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

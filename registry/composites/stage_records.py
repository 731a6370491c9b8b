"""Finds the variants that may become stages, and computes what they answer to labelled rows.

Each is loaded in a process of its own, one after the other: what a stage needs of memory is needed once.
"""

import asyncio
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from registry.artifacts import ArtifactStore
from registry.pipeline.isolation import run_step
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.samples import Arrays, load_arrays, save_arrays
from runtimes.composite import CASCADE, CHAIN
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from schemas.rows.processing import Processing
from store.pool import Pool
from store.registry import get_architecture, get_profile, get_task, get_variant

_BATCH: Final = 32


class FoundStage(NamedTuple):
    """A ready variant, and what is known of it."""

    variant: Variant
    profile: Profile
    architecture: Architecture


class StageFinder:
    """Finder of registered variants, and of what is known of them."""

    def __init__(self, pool: Pool, artifacts: ArtifactStore) -> None:
        self._pool = pool
        self._artifacts = artifacts

    async def task(self, name: str) -> Task:
        """The task of this name; raises `OperatorError` if there is none."""
        task = await get_task(self._pool, name)
        if task is None:
            raise OperatorError(f"there is no task {name!r}; `infaas tasks` lists them")
        return task

    async def stage(self, name: str, task: str) -> FoundStage:
        """The ready variant of this name.

        Raises:
            InvalidRequest: it is of another task, or itself a cascade.
            OperatorError: it is not ready, or its artifact is not here.
        """
        variant, profile = await get_variant(self._pool, name), await get_profile(self._pool, name)
        if variant is None or profile is None or variant.state is not VariantState.READY:
            raise OperatorError(f"{name} is not registered and ready; `infaas variants --task {task}` lists what is")
        if variant.task != task:
            raise InvalidRequest(f"{name} is a variant of task {variant.task} and not of {task}")
        if variant.runtime in (CASCADE, CHAIN):
            raise InvalidRequest(f"{name} is a {variant.runtime} already: name the variants that it is made of")
        if not self._artifacts.has(variant.artifact):
            raise OperatorError(f"the artifact of {name} is not here: use the --home that it was registered in")
        architecture = await get_architecture(self._pool, variant.architecture)
        if architecture is None:
            raise OperatorError(f"{name} was deleted meanwhile")
        return FoundStage(variant, profile, architecture)

    async def outputs(self, stage: FoundStage, rows: Arrays, folder: Path) -> Arrays:
        """What the model of a stage answers to the rows, before its scores are made anything else.

        `folder` is for files that this needs.

        Raises:
            OperatorError: it does not run here.
        """
        variant, processing = stage.variant, self.with_paths(stage.architecture.processing)
        step = ComputeOutputs(
            artifact=self._artifacts.path(variant.artifact).absolute(),
            runtime=variant.runtime,
            hardware=variant.hardware,
            options=LoadOptions(
                precision=variant.precision, threads=stage.profile.threads, max_batch=min(_BATCH, variant.max_batch)
            ),
            samples=folder / "stage-rows",
            outputs=folder / "stage-outputs",
            processing=processing and replace(processing, after=()),
        )
        await asyncio.to_thread(save_arrays, step.samples, rows)
        try:
            await run_step(step, type(None))
        except ModelFailed as error:
            raise OperatorError(f"{variant.name} does not run here: {error}") from error
        return await asyncio.to_thread(load_arrays, step.outputs)

    def with_paths(self, processing: Processing | None) -> Processing | None:
        """Processing as it is registered, its files as paths."""
        return processing and processing.with_files(lambda sha256: str(self._artifacts.path(sha256).absolute()))

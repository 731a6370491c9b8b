"""Finds variants that may become stages, and computes their answers to labelled rows.

Each variant is loaded in a process of its own, here or on a worker, one after the other, so memory is needed for one
stage at a time.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from registry.access import publisher_of, read_sight
from registry.artifacts import ArtifactStore
from registry.samples import Arrays, save_arrays
from registry.step_runner import LOCAL, StepRunner, variant_outputs
from runtimes.composite import CASCADE, CHAIN
from schemas.defaults import CONTEXT_TOKENS
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from store.pool import Pool
from store.registry import get_architecture, get_profile, get_task, get_variant, list_profiles, list_variants

Row = TypeVar("Row", Task, Variant)


class FoundStage(NamedTuple):
    """A ready variant with its profile and its architecture."""

    variant: Variant
    profile: Profile
    architecture: Architecture

    @property
    def context_tokens(self) -> int:
        """Context with which it was measured, if it is generative; else the default."""
        generation = self.profile.generation
        return CONTEXT_TOKENS if generation is None else generation.context_tokens


def parts_of(stages: Iterable[FoundStage]) -> tuple[str, ...]:
    """Return the tasks and models of the stages; only tenants that may use all of them may use a composite of them."""
    return tuple(sorted({name for stage in stages for name in (stage.variant.task, stage.architecture.model)}))


def unbeaten(profiles: Sequence[Profile]) -> list[Profile]:
    """Return the profiles that no other beats in both accuracy and time for an input, the fastest first.

    Only variants with the fewest cores count: times on more cores cannot be compared.
    """
    fewest = min((one.threads for one in profiles), default=0)
    best, accuracy = list[Profile](), -1.0
    for profile in sorted(profiles, key=lambda one: (one.latency[0].typical_s, -one.accuracy)):
        if profile.threads == fewest and profile.accuracy > accuracy:
            best.append(profile)
            accuracy = profile.accuracy
    return best


@dataclass(frozen=True)
class StageFinder:
    """Finder of registered variants with their profiles; `runner` computes their answers.

    Rows that a `publisher` may not use are treated as missing.
    """

    pool: Pool
    artifacts: ArtifactStore
    runner: StepRunner = LOCAL
    publisher: str | None = None

    async def task(self, name: str) -> Task:
        """Return the task of this name; raises `OperatorError` if there is none."""
        task = await get_task(self.pool, name)
        if task is None or not await self._filter_visible([task]):
            raise OperatorError(f"there is no task {name!r}; `infaas tasks` lists them")
        return task

    async def stage(self, name: str, task: str, *, but: Sequence[str] = (CASCADE, CHAIN)) -> FoundStage:
        """Return the ready variant of this name, if its runtime is not in `but`.

        Raises:
            InvalidRequest: it belongs to another task, or its runtime is in `but`.
            OperatorError: it is not ready, or its artifact is not in the store.
        """
        variant, profile = await get_variant(self.pool, name), await get_profile(self.pool, name)
        ready = variant is not None and variant.state is VariantState.READY and await self._filter_visible([variant])
        if variant is None or profile is None or not ready:
            raise OperatorError(
                f"{name} is not registered and ready; `infaas variants --task {task}` lists ready variants"
            )
        if variant.task != task:
            raise InvalidRequest(f"{name} is a variant of task {variant.task} and not of {task}")
        if variant.runtime in but:
            raise InvalidRequest(f"{name} is a {variant.runtime} itself: use the variants that it is made of")
        if not await asyncio.to_thread(self.artifacts.has, variant.artifact):
            raise OperatorError(f"the artifact of {name} is missing: use the --home in which it was registered")
        architecture = await get_architecture(self.pool, variant.architecture)
        if architecture is None:
            raise OperatorError(f"{name} was deleted meanwhile")
        return FoundStage(variant, profile, architecture)

    async def worth_trying(self, task: str, hardware: str) -> list[FoundStage]:
        """Return the single variants that no other beats in both accuracy and time for an input, the fastest first.

        Raises:
            OperatorError: there is none.
        """
        profiles = {profile.variant: profile for profile in await list_profiles(self.pool, task=task)}
        ready = await self._filter_visible(await list_variants(self.pool, task=task, state=VariantState.READY))
        singles = [
            profiles[one.name] for one in ready if one.hardware == hardware and one.runtime not in (CASCADE, CHAIN)
        ]
        best = unbeaten(singles)
        if not best:
            raise OperatorError(f"task {task} has no variant for {hardware} that is ready")
        return [await self.stage(profile.variant, task) for profile in best]

    async def _filter_visible(self, rows: Sequence[Row]) -> Sequence[Row]:
        if self.publisher is None:
            return rows
        sight = await read_sight(self.pool, publisher_of(self.publisher))
        return [row for row in rows if sight.sees(row)]

    async def outputs(self, stage: FoundStage, rows: Arrays, folder: Path) -> Arrays:
        """Return the outputs of a stage's model for the rows, before any processing of its scores.

        `folder` holds temporary files.

        Raises:
            OperatorError: the model does not run.
        """
        file, processing = folder / "stage-rows", stage.architecture.processing
        await asyncio.to_thread(save_arrays, file, rows)
        bare, threads = processing and replace(processing, after=()), stage.profile.threads
        return await variant_outputs(
            stage.variant, bare, self.artifacts, file, threads, self.runner, stage.context_tokens
        )

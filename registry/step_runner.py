"""Runners of registration steps: in processes of this machine, or on workers of their hardware (`builds`).

`measure_variant` and `variant_outputs` run the steps that compute with a stored variant. `CheckedOutArtifacts` holds
artifacts in local files while a step, or a whole registration, needs them: if the artifacts are in a bucket, its local
cache may evict any file that nobody holds.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, cast

from process.cpus import BEHIND_SERVICES
from registry.artifacts import ArtifactStore
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import ComputeOutputs, Measurement, MeasureVariant
from registry.pipeline.step_process import StepLimits
from registry.plan import PlanVariants
from registry.samples import Arrays, load_arrays
from runtimes.composite import hold_artifacts
from runtimes.protocol import LoadOptions
from schemas.defaults import CONTEXT_TOKENS
from schemas.errors import ModelFailed, OperatorError
from schemas.rows.catalog import Processing, Variant
from schemas.signature import TensorSpec

HardwareStep = PlanVariants | GenerateVariant | MeasureVariant | ComputeOutputs
"""Steps whose results are valid for one hardware type."""
Show = Callable[[str], None]
"""Shows where a step runs, or that it waits."""
T = TypeVar("T")
_BATCH: Final = 32


class CheckedOutArtifacts:
    """Artifacts that stay in local files while this context is open; fetched and verified in threads.

    Raises:
        OperatorError: from each method, if an artifact is missing, is damaged, or cannot be fetched.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._files = ExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._files.close()

    async def file(self, sha256: str) -> Path:
        """Hold one artifact and return its file."""
        return await asyncio.to_thread(self._hold, sha256)

    async def variant(self, runtime: str, sha256: str) -> Path:
        """Hold the artifact of a variant, and of a composite also those of its stages, beside it; return its file."""
        return await asyncio.to_thread(hold_artifacts, runtime, sha256, self._hold)

    async def processing(self, registered: Processing | None) -> Processing | None:
        """Hold the files of the processing, and return it with their paths."""
        if registered is None:
            return None
        return await asyncio.to_thread(registered.with_files, lambda sha256: str(self._hold(sha256)))

    def _hold(self, sha256: str) -> Path:
        return self._files.enter_context(self._artifacts.held(sha256)).absolute()


class StepRunner(Protocol):
    """Runner of steps that have a hardware type. A step writes its outputs to the files that it names."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step and return its result, of type `kind`.

        Raises the errors of `run_step`, and `OperatorError` if the step cannot run.
        """
        ...


class LocalSteps:
    """Runner on this machine; the results are valid for its devices.

    Registrations that share a runner may run at once: one step times its model at a time, and the others yield.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Lock()

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step in a child process; a plan in this process, because it executes no model."""
        if isinstance(step, PlanVariants):
            return cast(T, await asyncio.to_thread(step.run))
        if isinstance(step, MeasureVariant):
            return await run_step(step, kind, turns=self._turns)
        return await run_step(step, kind, StepLimits(nice=BEHIND_SERVICES))


LOCAL: Final = LocalSteps()
"""Runner for one registration at a time."""


async def measure_variant(
    variant: Variant, artifacts: ArtifactStore, runner: StepRunner, show: Show, *, threads: int, samples: Path,
    outputs: Path, processing: Processing | None, tensors: tuple[TensorSpec, ...],
    returned: tuple[TensorSpec, ...] = (), single_outputs: Path | None = None, context_tokens: int = CONTEXT_TOKENS,
) -> tuple[Measurement, Arrays]:  # fmt: skip
    """Return the measurement of a variant, and its outputs for all samples; see `MeasureVariant` for the files."""
    async with CheckedOutArtifacts(artifacts) as held:
        step = MeasureVariant(
            artifact=await held.variant(variant.runtime, variant.artifact),
            runtime=variant.runtime,
            hardware=variant.hardware,
            options=LoadOptions(
                precision=variant.precision,
                threads=threads,
                max_batch=variant.max_batch,
                context_tokens=context_tokens,
            ),
            samples=samples,
            outputs=outputs,
            single_outputs=single_outputs,
            processing=processing,
            tensors=tensors,
            returned=returned,
        )
        measurement = await runner.run(step, Measurement, show)
    return measurement, await asyncio.to_thread(load_arrays, outputs)


async def variant_outputs(
    variant: Variant,
    processing: Processing | None,
    artifacts: ArtifactStore,
    rows: Path,
    threads: int,
    runner: StepRunner,
    context_tokens: int = CONTEXT_TOKENS,
) -> Arrays:
    """Return the outputs of a variant for the inputs in a file.

    Args:
        variant: the variant that computes them.
        processing: processing around it, as registered.
        artifacts: store of its files.
        rows: inputs, as `save_arrays` writes them; the outputs are written to a file beside it.
        threads: threads that compute a batch.
        runner: runs the step.
        context_tokens: maximum tokens of a prompt and its answer, of a generative variant.

    Raises:
        OperatorError: the variant does not run here, or one of its files cannot be fetched.
    """
    try:
        async with CheckedOutArtifacts(artifacts) as held:
            step = ComputeOutputs(
                artifact=await held.variant(variant.runtime, variant.artifact),
                runtime=variant.runtime,
                hardware=variant.hardware,
                options=LoadOptions(
                    precision=variant.precision,
                    threads=threads,
                    max_batch=min(_BATCH, variant.max_batch),
                    context_tokens=context_tokens,
                ),
                samples=rows,
                outputs=rows.with_name(f"{rows.name}-outputs"),
                processing=await held.processing(processing),
                mixes_lengths=variant.mixes_lengths,
            )
            await runner.run(step, type(None), lambda _text: None)
    except ModelFailed as error:
        raise OperatorError(f"{variant.name} does not run here: {error}") from error
    return await asyncio.to_thread(load_arrays, step.outputs)

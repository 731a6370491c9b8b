"""What a registered variant answers to given inputs, computed in a process of its own and not measured."""

import asyncio
from pathlib import Path
from typing import Final

from registry.artifacts import ArtifactStore
from registry.held_artifacts import HeldArtifacts
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.samples import Arrays, load_arrays
from registry.step_runner import LOCAL, StepRunner
from runtimes.protocol import LoadOptions
from schemas.errors import ModelFailed, OperatorError
from schemas.rows.catalog import Variant
from schemas.rows.processing import Processing

_BATCH: Final = 32


async def variant_outputs(
    variant: Variant,
    processing: Processing | None,
    artifacts: ArtifactStore,
    rows: Path,
    threads: int = 1,
    runner: StepRunner = LOCAL,
) -> Arrays:
    """The outputs of a variant for the inputs in a file.

    Args:
        variant: what computes them.
        processing: what is done around it, as registered.
        artifacts: where its files are.
        rows: inputs, as `save_arrays` writes them; a file beside it is written.
        threads: those that a batch computes with.
        runner: where it is computed.

    Raises:
        OperatorError: it does not run here, or a file of it is not to be had.
    """
    try:
        async with HeldArtifacts(artifacts) as held:
            step = ComputeOutputs(
                artifact=await held.variant(variant.runtime, variant.artifact),
                runtime=variant.runtime,
                hardware=variant.hardware,
                options=LoadOptions(
                    precision=variant.precision, threads=threads, max_batch=min(_BATCH, variant.max_batch)
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

"""Computes the outputs of a registered variant for given inputs, in a process of its own and without measuring."""

import asyncio
from pathlib import Path
from typing import Final

from registry.artifacts import ArtifactStore
from registry.checked_out_artifacts import CheckedOutArtifacts
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
    """Return the outputs of a variant for the inputs in a file.

    Args:
        variant: the variant that computes them.
        processing: processing around it, as registered.
        artifacts: store of its files.
        rows: inputs, as `save_arrays` writes them; the outputs are written to a file beside it.
        threads: threads that compute a batch.
        runner: runs the step.

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

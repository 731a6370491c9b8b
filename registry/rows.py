"""The rows that a registration writes, from what was asked for and what was measured."""

from registry.measure import Measured, fit_line
from registry.plan import Recipe
from registry.registration import Registration
from registry.samples import Samples
from registry.verify import Verdict
from schemas.records import AccuracySource, Profile, Variant, VariantState


def variant_row(request: Registration, recipe: Recipe, artifact: str) -> Variant:
    """A variant whose file was just generated."""
    return Variant(
        name=recipe.variant_name(request),
        architecture=request.architecture,
        task=request.task,
        runtime=recipe.runtime,
        precision=recipe.precision,
        hardware=request.hardware,
        max_batch=request.max_batch,
        artifact=artifact,
        state=VariantState.GENERATED,
        partitions=request.partitions,
    )


def profile_row(request: Registration, variant: str, measured: Measured, verdict: Verdict, samples: Samples) -> Profile:
    """What was measured; without labels the accuracy is marked as declared."""
    line = fit_line(measured.latency)
    labelled = samples.labels is not None
    return Profile(
        variant=variant,
        device=measured.device,
        threads=request.threads,
        load_s=measured.load_s,
        memory_bytes=measured.memory_bytes,
        accuracy=verdict.accuracy,
        accuracy_source=AccuracySource.MEASURED if labelled else AccuracySource.DECLARED,
        samples=samples.count if labelled else 0,
        latency=measured.latency,
        intercept_s=line.intercept_s,
        slope_s=line.slope_s,
        fit_error=line.error,
    )

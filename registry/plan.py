"""Plans which variants are made of a model here, and explains each that is not. No model is executed."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from process.cpus import usable_cores
from registry.pipeline.source_format import SourceFormat, operators_within, source_format, weights_precision
from registry.recipes import RECIPES, WIDE_RUNTIMES, GeneratorKind, Recipe
from registry.request import Registration
from runtimes.catalog import find_runtime
from schemas.defaults import THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.catalog import Variant, VariantState

_LOSSLESS: Final = "fp32"
_HALF: Final = "fp16"
_CALIBRATED: Final = (GeneratorKind.STATIC_INT8, GeneratorKind.NNCF_INT8, GeneratorKind.SYMMETRIC_INT8)


class PlannedVariant(msgspec.Struct, frozen=True):
    """A variant to make."""

    row: Variant
    """Row of the variant after its generation, without its artifact."""
    generator: GeneratorKind
    source: str
    """Name of the variant whose file it is made from; for the reference its own name."""
    asked_for: bool = False
    """True if its label was requested explicitly."""
    threads: int = THREADS
    """Threads that compute a batch."""
    is_wide: bool = False
    """True if it is its source on more cores."""

    def of_one(self) -> "PlannedVariant":
        """Return the same variant for a model that computes one input at a time."""
        return replace(self, row=replace(self.row, max_batch=1))

    @property
    def is_lossy(self) -> bool:
        """True if it computes with fewer bits than the model as registered."""
        return self.row.precision != _LOSSLESS


class RecipeVerdict(msgspec.Struct, frozen=True):
    """Verdict whether a kind of variant can be made of a model on a hardware type of this machine."""

    label: str
    hardware: str
    runtime: str
    precision: str
    reason: str = ""
    """Why it cannot be made; empty if it can."""

    @property
    def applies(self) -> bool:
        """True if it can be made."""
        return not self.reason


class PlanVariants(msgspec.Struct, frozen=True, tag=True):
    """Plan a registration on a machine with its hardware: the plan depends on that machine."""

    registration: Registration
    source_format: str
    precision: str = _LOSSLESS
    """Precision of the registered file's weights."""

    @property
    def hardware(self) -> str:
        """Hardware type of the variants."""
        return self.registration.hardware

    def run(self) -> tuple[PlannedVariant, ...]:
        """Plan the variants, as `plan_variants` does."""
        return plan_variants(self.registration, self.source_format, self.precision)


def plan_variants(
    registration: Registration, source_format: str, precision: str = _LOSSLESS
) -> tuple[PlannedVariant, ...]:
    """Return the variants to make here, in order; the first is the reference for the others.

    `precision` is that of the registered file's weights.

    Raises:
        OperatorError: the reference cannot run here, this machine has too few cores, or a requested label does not
            exist for this kind of model.
    """
    hardware = registration.hardware
    _check_cores(registration)
    recipes = recipes_of(source_format, precision)
    reference, *others = _recipes(recipes, hardware)
    available = find_runtime(reference.runtime).availability(_hardware_of(reference, hardware))
    if not available.available:
        raise OperatorError(f"cannot register {registration.file.name} for {hardware}: {available.reason}")
    _check_labels(registration.variants, recipes)
    possible = [r for r in others if not _obstacle(r, hardware) and (r.batch or 1) <= registration.max_batch]
    if hardware not in reference.hardware and not possible:
        raise OperatorError(
            f"cannot register {registration.file.name} for {hardware}: {_obstacle(others[0], hardware)}"
        )
    chosen = (reference, *_with_sources(possible, registration.variants, reference))
    planned = tuple(_planned(recipe, registration, reference) for recipe in chosen)
    return (*planned, *_on_more_cores(planned, registration))


def _on_more_cores(planned: Sequence[PlannedVariant], registration: Registration) -> Iterator[PlannedVariant]:
    """Yield the same variants for more CPU cores; their hardware is named with the number of cores: `cpu2`."""
    for cores in sorted(set(registration.cores)):
        for one in planned:
            if one.row.hardware == Hardware.CPU and one.row.runtime in WIDE_RUNTIMES:
                row = replace(one.row, name=f"{one.row.name}{cores}")
                yield replace(
                    one, row=row, generator=GeneratorKind.AS_IS, source=one.row.name, threads=cores, is_wide=True
                )


def explain_recipes(
    registration: Registration,
    source_format: str,
    hardware: Sequence[str],
    operators: Collection[str] | None,
    precision: str = _LOSSLESS,
) -> list[RecipeVerdict]:
    """Return a verdict for every kind of variant on each hardware type that it may run on.

    `operators` are those of the model, if they are known without executing it.
    """
    verdicts: dict[tuple[str, str], RecipeVerdict] = {}
    for recipe in recipes_of(source_format, precision):
        for one in (one for one in hardware if one in recipe.hardware):
            source = verdicts.get((recipe.source or "", one))
            reason = _obstacle(recipe, one) or _nothing_to_gain(recipe, registration, operators)
            if not reason and source is not None and source.reason:
                reason = f"it is made from {source.label}: {source.reason}"
            verdicts[recipe.label, one] = RecipeVerdict(recipe.label, one, recipe.runtime, recipe.precision, reason)
    return list(verdicts.values())


def recipes_of(source_format: str, precision: str) -> tuple[Recipe, ...]:
    """Return the recipes for a model with weights of this precision, which the first label names."""
    whole, *others = RECIPES[source_format]
    if precision == whole.precision:
        return (whole, *others)
    own = replace(whole, label=f"{whole.label.partition('-')[0]}-{precision}", precision=precision)
    # Weights that have fewer bits already are not quantised again. FP16 weights can still become INT8. A language model
    # in any format can take another one: some are computed several times as fast as others of the same size.
    again = precision == _HALF or source_format == SourceFormat.GGUF
    kept = [recipe for recipe in others if recipe.label != own.label] if again else []
    return (own, *kept)


def _recipes(recipes: Sequence[Recipe], hardware: str) -> list[Recipe]:
    """Return the recipes for a hardware type; the first, which runs the registered file unchanged, is the reference.

    If no runtime there runs the file unchanged, but one runs a file compiled from it, the reference runs on the CPU.

    Raises:
        OperatorError: no runtime runs such a file there.
    """
    found = [recipe for recipe in recipes if hardware in recipe.hardware]
    if found and found[0].source is None and found[0].generator is GeneratorKind.AS_IS:
        return found
    compiled = [recipe for recipe in found if recipe.source is None]
    if not compiled:
        raise OperatorError(f"cannot register the model for {hardware}: no runtime for such a file supports it")
    return [recipes[0], *compiled]


def _hardware_of(recipe: Recipe, hardware: str) -> str:
    return hardware if hardware in recipe.hardware else Hardware.CPU


def _planned(recipe: Recipe, registration: Registration, reference: Recipe) -> PlannedVariant:
    hardware = _hardware_of(recipe, registration.hardware)
    row = Variant(
        name=_variant_name(registration, recipe.label, hardware),
        architecture=registration.architecture,
        task=registration.task,
        runtime=recipe.runtime,
        precision=recipe.precision,
        hardware=hardware,
        max_batch=recipe.batch or registration.max_batch,
        artifact="",
        state=VariantState.GENERATED,
        partitions=registration.partitions,
    )
    label = recipe.source or reference.label
    made_on = _hardware_of(reference, registration.hardware) if label == reference.label else hardware
    source = _variant_name(registration, label, made_on)
    return PlannedVariant(row, recipe.generator, source, recipe.label in registration.variants, registration.threads)


def _variant_name(registration: Registration, label: str, hardware: str) -> str:
    return f"{registration.architecture}.{label}.{hardware}"


def _check_cores(registration: Registration) -> None:
    there = usable_cores()
    threads = (registration.threads,) if registration.hardware == Hardware.CPU else ()
    for flag, wanted in (("--threads", threads), ("--cores", registration.cores)):
        for cores in wanted:
            if cores > there:
                raise OperatorError(
                    f"{flag} {cores}: this machine has only {there} cores, and a variant is measured where it runs"
                )


def _check_labels(wanted: Sequence[str], recipes: Sequence[Recipe]) -> None:
    known = [recipe.label for recipe in recipes]
    for label in wanted:
        if label not in known:
            raise OperatorError(f"there is no variant {label!r} of such models; there are {', '.join(known)}")


def _obstacle(recipe: Recipe, hardware: str) -> str:
    """Return why this machine cannot run a kind of variant on a hardware type, whatever the model; empty if it can."""
    available = find_runtime(recipe.runtime).availability(hardware)
    if not available.available:
        return available.reason
    return recipe.condition(hardware) if recipe.condition is not None else ""


def _nothing_to_gain(recipe: Recipe, registration: Registration, operators: Collection[str] | None) -> str:
    """Return why this model, with these inputs, has no such variant; empty if it has one."""
    if recipe.batch is not None and recipe.batch > registration.max_batch:
        return f"it computes batches of {recipe.batch}, but --max-batch is {registration.max_batch}"
    if operators is not None and recipe.operators and not set(operators).intersection(recipe.operators):
        return f"the model has no {' or '.join(recipe.operators)} to quantise"
    lacking = sorted(set(operators or ()).intersection(recipe.without))
    if lacking:
        return f"{recipe.runtime} has no operator {', '.join(lacking)}, which the model needs"
    if recipe.generator in _CALIBRATED and registration.validation is None and registration.calibration is None:
        return "no inputs to calibrate with: give a --validation or a --calibration file"
    return ""


def _with_sources(possible: Sequence[Recipe], wanted: Sequence[str], reference: Recipe) -> list[Recipe]:
    """Return the requested recipes and the recipes that they are made from."""
    needed = set(wanted) if wanted else {recipe.label for recipe in possible}
    for recipe in reversed(possible):  # a source stands before the recipes made from it
        if recipe.label in needed and recipe.source is not None:
            needed.add(recipe.source)
    there, kept = {reference.label}, list[Recipe]()
    for recipe in possible:
        if recipe.label in needed and (recipe.source is None or recipe.source in there):
            there.add(recipe.label)
            kept.append(recipe)
    return kept


def dry_run(request: Registration) -> list[RecipeVerdict]:
    """Return for every kind of variant and every hardware type whether it would be made here, else why not; blocks.

    Raises:
        OperatorError: the file cannot be read, or the package that reads it is not installed.
        InvalidRequest: it is not a model that can be registered.
    """
    form = source_format(request.file)
    operators = operators_within(request.file) if form is SourceFormat.ONNX else None
    return explain_recipes(request, form, tuple(Hardware), operators, weights_precision(request.file, form))

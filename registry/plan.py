"""Which variants of the table are to be made of a model here, and of each that is not, why. No model is executed."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from process.cpus import usable_cores
from registry.recipes import RECIPES, WIDE_RUNTIMES, GeneratorKind, Recipe
from registry.registration import Registration
from runtimes.catalog import find_runtime
from schemas.defaults import THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.catalog import Variant, VariantState

_LOSSLESS: Final = "fp32"
_HALF: Final = "fp16"
_CALIBRATED: Final = (GeneratorKind.STATIC_INT8, GeneratorKind.NNCF_INT8, GeneratorKind.SYMMETRIC_INT8)


class PlannedVariant(msgspec.Struct, frozen=True):
    """A variant that is to be made."""

    row: Variant
    """The variant's row as it is written once it is generated, but for its artifact."""
    generator: GeneratorKind
    source: str
    """Name of the variant whose file it is made from; the reference's is its own."""
    asked_for: bool = False
    """Whether it was named, and not just may be made."""
    threads: int = THREADS
    """Threads that a batch of it computes with."""
    is_wide: bool = False
    """Whether it is its source on more cores."""

    def of_one(self) -> "PlannedVariant":
        """The same for a model that computes one input at a time."""
        return replace(self, row=replace(self.row, max_batch=1))

    @property
    def is_lossy(self) -> bool:
        """Whether it computes with fewer bits than the model as registered."""
        return self.row.precision != _LOSSLESS


class RecipeVerdict(msgspec.Struct, frozen=True):
    """Whether a kind of variant can be made of a model on a hardware type of this machine."""

    label: str
    hardware: str
    runtime: str
    precision: str
    reason: str = ""
    """Why not; empty if it can."""

    @property
    def applies(self) -> bool:
        """Whether it can be made."""
        return not self.reason


class PlanVariants(msgspec.Struct, frozen=True, tag=True):
    """Plan a registration on the hardware that it is for; what is there decides."""

    registration: Registration
    source_format: str
    precision: str = _LOSSLESS
    """Precision of the registered file's weights."""

    @property
    def hardware(self) -> str:
        """Hardware type that the variants are for."""
        return self.registration.hardware

    def run(self) -> tuple[PlannedVariant, ...]:
        """Plan the variants, as `plan_variants` does."""
        return plan_variants(self.registration, self.source_format, self.precision)


def plan_variants(
    registration: Registration, source_format: str, precision: str = _LOSSLESS
) -> tuple[PlannedVariant, ...]:
    """The variants to make here, in order; the first is the reference that the others are compared with.

    `precision` is that of the registered file's weights.

    Raises:
        OperatorError: the reference cannot run here, this machine has too few cores, or a wanted label does not exist
            for this kind of model.
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
    """The same variants for more cores of a CPU, which is named after how many: `cpu2`."""
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
    """Every kind of variant on each hardware type that it may run on, applicable or not.

    `operators` are those of the model, where they are known without executing it.
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
    """The table's rows for a model whose weights are of this precision: what runs it as it is, is called so."""
    whole, *others = RECIPES[source_format]
    if precision == whole.precision:
        return (whole, *others)
    own = replace(whole, label=f"{whole.label.partition('-')[0]}-{precision}", precision=precision)
    # What has fewer bits already is not made smaller once more; of FP16 there is INT8.
    kept = [recipe for recipe in others if recipe.label != own.label] if precision == _HALF else []
    return (own, *kept)


def _recipes(recipes: Sequence[Recipe], hardware: str) -> list[Recipe]:
    """The table's rows for a hardware type; the first, which runs the registered file as it is, is the reference.

    Where nothing there runs the file as it is, but what is compiled from it does, the reference runs on the CPU.

    Raises:
        OperatorError: nothing runs such a file there.
    """
    found = [recipe for recipe in recipes if hardware in recipe.hardware]
    if found and found[0].source is None and found[0].generator is GeneratorKind.AS_IS:
        return found
    compiled = [recipe for recipe in found if recipe.source is None]
    if not compiled:
        raise OperatorError(f"cannot register the model for {hardware}: no runtime that takes such a file runs on it")
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
                    f"{flag} {cores}: only {there} are here, and what a variant takes is measured where it runs"
                )


def _check_labels(wanted: Sequence[str], recipes: Sequence[Recipe]) -> None:
    known = [recipe.label for recipe in recipes]
    for label in wanted:
        if label not in known:
            raise OperatorError(f"there is no variant {label!r} of such a model; there are {', '.join(known)}")


def _obstacle(recipe: Recipe, hardware: str) -> str:
    """Why this machine cannot run a kind of variant on a hardware type, whatever the model; empty if it can."""
    available = find_runtime(recipe.runtime).availability(hardware)
    if not available.available:
        return available.reason
    return recipe.condition(hardware) if recipe.condition is not None else ""


def _nothing_to_gain(recipe: Recipe, registration: Registration, operators: Collection[str] | None) -> str:
    """Why this model, with these inputs, has no such variant; empty if it has."""
    if recipe.batch is not None and recipe.batch > registration.max_batch:
        return f"it computes batches of {recipe.batch}, and --max-batch is {registration.max_batch}"
    if operators is not None and recipe.operators and not set(operators).intersection(recipe.operators):
        return f"the model has no {' or '.join(recipe.operators)} to quantise"
    lacking = sorted(set(operators or ()).intersection(recipe.without))
    if lacking:
        return f"{recipe.runtime} has no operator {', '.join(lacking)}, which the model needs"
    if recipe.generator in _CALIBRATED and registration.validation is None and registration.calibration is None:
        return "no inputs to calibrate with: give a --validation or a --calibration file"
    return ""


def _with_sources(possible: Sequence[Recipe], wanted: Sequence[str], reference: Recipe) -> list[Recipe]:
    """Recipes that are wanted, and those that they are made from."""
    needed = set(wanted) if wanted else {recipe.label for recipe in possible}
    for recipe in reversed(possible):  # a source stands before what is made from it
        if recipe.label in needed and recipe.source is not None:
            needed.add(recipe.source)
    there, kept = {reference.label}, list[Recipe]()
    for recipe in possible:
        if recipe.label in needed and (recipe.source is None or recipe.source in there):
            there.add(recipe.label)
            kept.append(recipe)
    return kept

"""The variants that an architecture can have, as one table. A new kind of variant is one row here and one generator."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from registry.pipeline.inspection import SourceFormat
from registry.registration import Registration
from runtimes.catalog import find_runtime
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.catalog import Variant, VariantState


class GeneratorKind(StrEnum):
    """How a variant's file is made."""

    AS_IS = "as-is"
    """It is the registered file itself, or another variant's."""
    TORCH_TO_ONNX = "torch-to-onnx"
    DYNAMIC_INT8 = "dynamic-int8"
    STATIC_INT8 = "static-int8"


class NotApplicable(Exception):
    """A variant would compute exactly as its source does, or cannot be made of this model; the message says why."""


class Recipe(msgspec.Struct, frozen=True):
    """One kind of variant."""

    label: str
    """The middle part of the variant's name."""
    runtime: str
    precision: str
    generator: GeneratorKind
    hardware: tuple[str, ...] = (Hardware.CPU,)
    source: str | None = None
    """Label of the variant whose file it is made from; None is the registered file."""


class PlannedVariant(msgspec.Struct, frozen=True):
    """A variant that is to be made."""

    row: Variant
    """The variant's row as it is written once it is generated, but for its artifact."""
    generator: GeneratorKind
    source: str
    """Name of the variant whose file it is made from; the reference's is its own."""
    asked_for: bool = False
    """Whether it was named, and not just may be made."""

    @property
    def is_lossy(self) -> bool:
        """Whether it computes with fewer bits than the model as registered."""
        return self.row.precision != _LOSSLESS


_LOSSLESS: Final = "fp32"
_ANY: Final = (Hardware.CPU, Hardware.CUDA)
_INT8: Final = (
    Recipe("onnx-int8dyn", "onnx", "int8-dynamic", GeneratorKind.DYNAMIC_INT8, source="onnx-fp32"),
    Recipe("onnx-int8static", "onnx", "int8-static", GeneratorKind.STATIC_INT8, source="onnx-fp32"),
)
_TENSORRT: Final = (
    Recipe("tensorrt-fp32", "onnx-tensorrt", "fp32", GeneratorKind.AS_IS, (Hardware.CUDA,), "onnx-fp32"),
    Recipe("tensorrt-fp16", "onnx-tensorrt", "fp16", GeneratorKind.AS_IS, (Hardware.CUDA,), "onnx-fp32"),
)
_RECIPES: Final[dict[str, tuple[Recipe, ...]]] = {
    SourceFormat.ONNX: (Recipe("onnx-fp32", "onnx", "fp32", GeneratorKind.AS_IS, _ANY), *_INT8, *_TENSORRT),
    SourceFormat.EXPORTED_PROGRAM: (
        Recipe("torch-fp32", "torch-eager", "fp32", GeneratorKind.AS_IS, _ANY),
        Recipe("torchcompile-fp32", "torch-compile", "fp32", GeneratorKind.AS_IS, _ANY, "torch-fp32"),
        Recipe("onnx-fp32", "onnx", "fp32", GeneratorKind.TORCH_TO_ONNX, _ANY, "torch-fp32"),
        *_INT8,
        *_TENSORRT,
    ),
}


def plan_variants(registration: Registration, source_format: str) -> tuple[PlannedVariant, ...]:
    """The variants to make here, in order; the first is the reference that the others are compared with.

    Raises:
        OperatorError: the reference cannot run here, or a wanted label does not exist for this kind of model.
    """
    reference, *others = _RECIPES[source_format]
    available = find_runtime(reference.runtime).availability(registration.hardware)
    if not available.available:
        raise OperatorError(f"cannot register {registration.file.name} for {registration.hardware}: {available.reason}")
    _check_labels(registration.variants, (reference, *others))
    chosen = [recipe for recipe in others if _possible(recipe, registration)]
    recipes = (reference, *_with_sources(chosen, registration.variants, reference))
    return tuple(_planned(recipe, registration) for recipe in recipes)


def _planned(recipe: Recipe, registration: Registration) -> PlannedVariant:
    row = Variant(
        name=_variant_name(registration, recipe.label),
        architecture=registration.architecture,
        task=registration.task,
        runtime=recipe.runtime,
        precision=recipe.precision,
        hardware=registration.hardware,
        max_batch=registration.max_batch,
        artifact="",
        state=VariantState.GENERATED,
        partitions=registration.partitions,
    )
    source = _variant_name(registration, recipe.source or recipe.label)
    return PlannedVariant(row, recipe.generator, source, recipe.label in registration.variants)


def _variant_name(registration: Registration, label: str) -> str:
    return f"{registration.architecture}.{label}.{registration.hardware}"


def _check_labels(wanted: Sequence[str], recipes: Sequence[Recipe]) -> None:
    known = [recipe.label for recipe in recipes]
    for label in wanted:
        if label not in known:
            raise OperatorError(f"there is no variant {label!r} of such a model; there are {', '.join(known)}")


def _possible(recipe: Recipe, registration: Registration) -> bool:
    return (
        registration.hardware in recipe.hardware
        and find_runtime(recipe.runtime).availability(registration.hardware).available
    )


def _with_sources(possible: list[Recipe], wanted: Sequence[str], reference: Recipe) -> list[Recipe]:
    """Recipes that are wanted, and those that they are made from."""
    labels = set(wanted) if wanted else {recipe.label for recipe in possible}
    needed = {recipe.source for recipe in possible if recipe.label in labels}
    there = {reference.label, *(recipe.label for recipe in possible)}
    return [recipe for recipe in possible if recipe.label in labels | needed and recipe.source in there]

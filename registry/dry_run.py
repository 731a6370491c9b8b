"""What a registration would make here, and what not and why, without executing or writing anything."""

from registry.pipeline.inspection import SourceFormat, operators_within, source_format, weights_precision
from registry.plan import RecipeVerdict, explain_recipes
from registry.registration import Registration
from schemas.hardware import Hardware


def dry_run(request: Registration) -> list[RecipeVerdict]:
    """Say of every kind of variant, on every hardware type, whether it would be made of the model here; blocks.

    Raises:
        OperatorError: the file cannot be read, or what reads it is not installed.
        InvalidRequest: it is no model that can be registered.
    """
    form = source_format(request.file)
    operators = operators_within(request.file) if form is SourceFormat.ONNX else None
    return explain_recipes(request, form, tuple(Hardware), operators, weights_precision(request.file, form))

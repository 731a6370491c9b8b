"""Dry run of a registration: lists the variants that would be made here, without executing or writing anything."""

from registry.pipeline.inspection import SourceFormat, operators_within, source_format, weights_precision
from registry.plan import RecipeVerdict, explain_recipes
from registry.registration import Registration
from schemas.hardware import Hardware


def dry_run(request: Registration) -> list[RecipeVerdict]:
    """Return for every kind of variant and every hardware type whether it would be made here, else why not; blocks.

    Raises:
        OperatorError: the file cannot be read, or the package that reads it is not installed.
        InvalidRequest: it is not a model that can be registered.
    """
    form = source_format(request.file)
    operators = operators_within(request.file) if form is SourceFormat.ONNX else None
    return explain_recipes(request, form, tuple(Hardware), operators, weights_precision(request.file, form))

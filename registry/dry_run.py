"""What a registration would make here, and what not and why, without executing or writing anything."""

from pathlib import Path

from registry.pipeline.inspection import SourceFormat, source_format, weights_precision
from registry.plan import RecipeVerdict, explain_recipes
from registry.registration import Registration
from schemas.errors import InvalidRequest
from schemas.hardware import Hardware


def dry_run(request: Registration) -> list[RecipeVerdict]:
    """Say of every kind of variant, on every hardware type, whether it would be made of the model here; blocks.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is no model that can be registered.
    """
    form = source_format(request.file)
    operators = _operators(request.file) if form is SourceFormat.ONNX else None
    return explain_recipes(request, form, tuple(Hardware), operators, weights_precision(request.file, form))


def _operators(file: Path) -> frozenset[str]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(file, load_external_data=False)
    except DecodeError as error:
        raise InvalidRequest(f"{file.name} is no ONNX model, or damaged: {error}") from error
    return frozenset(node.op_type for node in model.graph.node)

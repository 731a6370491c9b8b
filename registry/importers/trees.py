"""Converts tree models to ONNX: XGBoost's and LightGBM's own formats, and scikit-learn models saved by skops.

None of these formats contains code. skops lists the types that a file would construct; a file with types that skops
does not trust is refused. The converters and libraries are in the extra `import`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from registry.importers.imported import ImportedModel, name_of
from schemas.errors import InvalidRequest, OperatorError

XGBOOST: Final = "an XGBoost model"
LIGHTGBM: Final = "a LightGBM model"
SKOPS: Final = "a scikit-learn model, by skops"
_EXTRA: Final = "pip install 'infaas[import]'"
_INPUT: Final = "x"


def convert_trees(source: Path, target: Path, kind: str) -> ImportedModel:
    """Convert a model to ONNX with the input `x`, one vector a row; blocks.

    Raises:
        OperatorError: a package is missing.
        InvalidRequest: the library or its converter refuses the file.
    """
    convert = _CONVERTERS[kind]
    try:
        model, features = convert(source)
    except ImportError as error:
        raise OperatorError(f"{source.name} is {kind}, and {error.name} is not installed: {_EXTRA}") from error
    except (InvalidRequest, OperatorError):
        raise
    except Exception as error:  # libraries raise any kind of error for a file that they refuse
        raise InvalidRequest(f"{source.name} is {kind}, but cannot be converted to ONNX: {error}") from error
    _free_outputs(model)
    model.graph.name = name_of(source)  # the converters invent another name each time
    target.write_bytes(model.SerializeToString())
    note = f"converted to ONNX; its input {_INPUT!r} has {features} numbers a row"
    return ImportedModel(file=target, name=name_of(source), kind=kind, notes=(note,))


def _vector(count: int) -> list[Any]:
    types = importlib.import_module("onnxmltools.convert.common.data_types")
    return [(_INPUT, types.FloatTensorType([None, count]))]


def _from_lightgbm(source: Path) -> tuple[Any, int]:
    booster = importlib.import_module("lightgbm").Booster(model_file=str(source))
    converters = importlib.import_module("onnxmltools")
    count = int(booster.num_feature())
    return converters.convert_lightgbm(booster, initial_types=_vector(count), zipmap=False), count


def _from_xgboost(source: Path) -> tuple[Any, int]:
    booster = importlib.import_module("xgboost").Booster(model_file=str(source))
    # The converter identifies features by number only.
    booster.feature_names = None
    converters = importlib.import_module("onnxmltools")
    count = int(booster.num_features())
    return converters.convert_xgboost(booster, initial_types=_vector(count)), count


def _from_skops(source: Path) -> tuple[Any, int]:
    skops = importlib.import_module("skops.io")
    unknown = skops.get_untrusted_types(file=source)
    if unknown:
        raise InvalidRequest(
            f"{source.name} constructs {', '.join(unknown[:3])}, which skops does not trust: convert it where you "
            "trained it, by skl2onnx.to_onnx"
        )
    model = skops.load(source)
    converter, types = importlib.import_module("skl2onnx"), importlib.import_module("skl2onnx.common.data_types")
    count = int(model.n_features_in_)
    options = {"zipmap": False} if hasattr(model, "classes_") else None
    given = [(_INPUT, types.FloatTensorType([None, count]))]
    return converter.convert_sklearn(model, initial_types=given, options=options), count


def _free_outputs(model: Any) -> None:
    """Make the first dimension of each output the batch; the converters omit it in some."""
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        if len(dims):
            dims[0].Clear()
            dims[0].dim_param = "batch"


_CONVERTERS: Final[dict[str, Callable[[Path], tuple[Any, int]]]] = {
    XGBOOST: _from_xgboost,
    LIGHTGBM: _from_lightgbm,
    SKOPS: _from_skops,
}

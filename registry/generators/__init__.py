"""How a variant's file is made from another one: one file per kind of model.

Reading order: onnx, pytorch.
"""

from pathlib import Path

from registry.plan import Generator, NothingToDo
from registry.samples import Arrays


def generate(generator: Generator, source: Path, target: Path, calibration: Arrays | None) -> None:
    """Write the variant's file to `target`; blocks, and belongs in a process of its own.

    Raises:
        NothingToDo: there is nothing to change in this model, or nothing to calibrate it with.
    """
    match generator:
        case Generator.DYNAMIC_INT8:
            from registry.generators.onnx import quantise_dynamic

            quantise_dynamic(source, target)
        case Generator.STATIC_INT8:
            from registry.generators.onnx import quantise_static

            if calibration is None:
                raise NothingToDo("no inputs to calibrate with: give a validation or a calibration file")
            quantise_static(source, target, calibration)
        case Generator.TORCH_TO_ONNX:
            from registry.generators.pytorch import to_onnx

            to_onnx(source, target)
        case Generator.AS_IS:
            raise ValueError("a file that is used as it is needs no generator")

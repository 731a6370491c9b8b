"""Makes a variant's file from another one, by the generator of its kind."""

from pathlib import Path

import msgspec

from registry.plan import GeneratorKind, NotApplicable
from registry.samples import load_arrays


class GenerateVariant(msgspec.Struct, frozen=True, tag=True):
    """Make a variant's file."""

    generator: GeneratorKind
    source: Path
    target: Path
    """File that is written."""
    calibration: Path | None
    """Inputs that calibrate, as `save_arrays` writes them."""

    def run(self) -> None:
        """Make the file; raises `NotApplicable` where this model has no such variant."""
        match self.generator:
            case GeneratorKind.DYNAMIC_INT8:
                from registry.pipeline.generators.onnx import quantise_dynamic

                quantise_dynamic(self.source, self.target)
            case GeneratorKind.STATIC_INT8:
                from registry.pipeline.generators.onnx import quantise_static

                if self.calibration is None:
                    raise NotApplicable("no inputs to calibrate with: give a validation or a calibration file")
                quantise_static(self.source, self.target, load_arrays(self.calibration))
            case GeneratorKind.TORCH_TO_ONNX:
                from registry.pipeline.generators.pytorch import to_onnx

                to_onnx(self.source, self.target)
            case GeneratorKind.AS_IS:
                raise ValueError("a file that is used as it is needs no generator")

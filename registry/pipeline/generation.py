"""Makes a variant's file from another file, by the generator of its kind."""

import re
from pathlib import Path
from typing import Final

import msgspec

from registry.recipes import GeneratorKind, NotApplicable
from registry.request import MOST_ACCURACY_LOST
from registry.samples import Arrays, load_arrays
from runtimes.onnx import is_pack
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.hardware import Hardware

_PLACE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |^Exception from \S+:\s*")
"""Prefixes of C++ libraries' errors: the place in the library that found the error."""
_MEMORY: Final = re.compile("bad_alloc|alloc|memory", re.IGNORECASE)
_TOOLS: Final = {
    GeneratorKind.TORCH_TO_ONNX: "torch's exporter to ONNX",
    GeneratorKind.FP16: "the conversion to FP16",
    GeneratorKind.DYNAMIC_INT8: "onnxruntime's dynamic quantisation",
    GeneratorKind.STATIC_INT8: "onnxruntime's static quantisation",
    GeneratorKind.NNCF_INT8: "NNCF's quantisation",
    GeneratorKind.SYMMETRIC_INT8: "onnxruntime's static quantisation for TensorRT",
    GeneratorKind.AHEAD_OF_TIME: "AOTInductor",
    GeneratorKind.NEURON: "the Neuron compiler",
    GeneratorKind.NEURONX: "the Neuron compiler",
    GeneratorKind.GGUF_Q8_0: "the quantisation of GGUF files",
    GeneratorKind.GGUF_Q4_0: "the quantisation of GGUF files",
    GeneratorKind.AS_IS: "nothing",
}


class GenerateVariant(msgspec.Struct, frozen=True, tag=True):
    """Make a variant's file."""

    generator: GeneratorKind
    source: Path
    target: Path
    """File to write."""
    calibration: Path | None
    """Inputs that calibrate, as `save_arrays` writes them."""
    most_lost: float = MOST_ACCURACY_LOST
    """Largest share of answers, 0..1, that tuning may change."""
    samples: Path | None = None
    """Inputs to trace with, for tools that need some."""
    hardware: str = Hardware.CPU
    batch: int = 1
    """Largest batch that the model computes; the only size if it is compiled for one."""

    def run(self) -> str:
        """Make the file and describe its tuning; raises `NotApplicable` if this model has no such variant."""
        try:
            return self._make()
        except (NotApplicable, InvalidRequest, OperatorError, ModelFailed, OSError, MemoryError):
            raise
        except Exception as error:  # tools raise any error for a model that they do not accept
            reason = _PLACE.sub("", next(iter(str(error).strip().splitlines()), "")).strip()
            if not reason or _MEMORY.search(reason):
                raise
            raise NotApplicable(f"{_TOOLS[self.generator]} does not support this model: {reason}") from error

    def _make(self) -> str:
        if self.generator is not GeneratorKind.TORCH_TO_ONNX and is_pack(self.source):
            raise NotApplicable("its weights take more than 2 GB, which the conversion tools do not support")
        match self.generator:
            case GeneratorKind.STATIC_INT8:
                from registry.pipeline.generators.static_int8 import quantise_static

                return quantise_static(self.source, self.target, self._calibration(), self.most_lost, self.batch)
            case GeneratorKind.TORCH_TO_ONNX | GeneratorKind.AHEAD_OF_TIME:
                self._convert_program()
            case GeneratorKind.NEURON | GeneratorKind.NEURONX:
                self._compile_for_neuron()
            case GeneratorKind.GGUF_Q8_0 | GeneratorKind.GGUF_Q4_0:
                from registry.pipeline.generators.gguf import requantise

                requantise(self.source, self.target, self.generator.removeprefix("gguf-"))
            case GeneratorKind.AS_IS:
                raise ValueError("a file that is used as it is needs no generator")
            case _:
                self._convert_onnx()
        return ""

    def _convert_onnx(self) -> None:
        from registry.pipeline.generators import onnx

        match self.generator:
            case GeneratorKind.FP16:
                onnx.to_fp16(self.source, self.target)
            case GeneratorKind.NNCF_INT8:
                onnx.quantise_nncf(self.source, self.target, self._calibration())
            case GeneratorKind.SYMMETRIC_INT8:
                onnx.quantise_symmetric(self.source, self.target, self._calibration(), self.batch)
            case _:
                onnx.quantise_dynamic(self.source, self.target)

    def _convert_program(self) -> None:
        from registry.pipeline.generators.torch import compile_ahead, to_onnx

        if self.generator is GeneratorKind.TORCH_TO_ONNX:
            to_onnx(self.source, self.target)
        else:
            compile_ahead(self.source, self.target, self.hardware)

    def _compile_for_neuron(self) -> None:
        from registry.pipeline.generators.torch import compile_for_neuron

        if self.samples is None:
            raise NotApplicable("no inputs to trace with")
        package = "torch_neuron" if self.generator is GeneratorKind.NEURON else "torch_neuronx"
        compile_for_neuron(self.source, self.target, package, self.batch, load_arrays(self.samples))

    def _calibration(self) -> Arrays:
        if self.calibration is None:
            raise NotApplicable("no inputs to calibrate with: give a validation or a calibration file")
        return load_arrays(self.calibration)

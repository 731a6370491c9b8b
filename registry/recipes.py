"""Table of the variants that an architecture can have. A new kind of variant is one row here and one generator."""

from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from shutil import which
from typing import Final

import msgspec

from registry.pipeline.source_format import SourceFormat
from runtimes.device import computes_bf16, computes_fp16
from schemas.hardware import Hardware

Condition = Callable[[str], str]
"""Returns why there is no such variant on a hardware type here, whatever the model; empty if there is one."""


class GeneratorKind(StrEnum):
    """Tool that makes a variant's file."""

    AS_IS = "as-is"
    """The registered file itself, or the file of another variant."""
    TORCH_TO_ONNX = "torch-to-onnx"
    FP16 = "fp16"
    DYNAMIC_INT8 = "dynamic-int8"
    STATIC_INT8 = "static-int8"
    NNCF_INT8 = "nncf-int8"
    SYMMETRIC_INT8 = "symmetric-int8"
    AHEAD_OF_TIME = "ahead-of-time"
    NEURON = "neuron"
    NEURONX = "neuronx"
    GGUF_Q8_0 = "gguf-q8-0"
    GGUF_Q4_0 = "gguf-q4-0"


class NotApplicable(Exception):
    """A variant would compute exactly as its source does, or cannot be made of this model; the message says why."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of variant."""

    label: str
    """Middle part of the variant's name."""
    runtime: str
    precision: str
    generator: GeneratorKind = GeneratorKind.AS_IS
    hardware: tuple[str, ...] = (Hardware.CPU,)
    source: str | None = None
    """Label of the variant whose file it is made from; None: the registered file."""
    operators: tuple[str, ...] = ()
    """ONNX operators of which the model must have at least one; without one the variant gains nothing."""
    without: tuple[str, ...] = ()
    """ONNX operators that the runtime lacks: a model with one of them has no such variant."""
    condition: Condition | None = None
    """Condition beside the runtime's own."""
    batch: int | None = None
    """The only batch size that it computes; None: any up to the requested limit."""


# -- packages and instructions of this machine -------------------------------------------------------------------------
def _missing(package: str, install: str) -> Condition:
    def condition(_hardware: str) -> str:
        return "" if find_spec(package) is not None else f"{package} is not installed: pip install {install}"

    return condition


def _no_compiler(_hardware: str) -> str:
    return "" if which("c++") or which("g++") else "no C++ compiler (c++) on this machine: AOTInductor needs one"


def _no_bf16(_hardware: str) -> str:
    return "" if computes_bf16() else "this CPU has no BF16 instructions (avx512_bf16, amx_bf16): it would only convert"


def _no_fp16(hardware: str) -> str:
    if hardware != Hardware.CPU or computes_fp16():
        return ""
    return "this CPU has no FP16 instructions (avx512_fp16, amx_fp16): it would only convert"


def _onnx_no_fp16(hardware: str) -> str:
    if hardware != Hardware.CPU:
        return ""
    return "on a CPU onnxruntime converts FP16 to FP32 and back around each operator: slower, and no smaller in memory"


# -- the table ---------------------------------------------------------------------------------------------------------
_ANY: Final = (Hardware.CPU, Hardware.CUDA)
_CUDA: Final = (Hardware.CUDA,)
_INTEL: Final = (Hardware.CPU, Hardware.INTEL_GPU, Hardware.INTEL_NPU)
_NEURON_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
WIDE_RUNTIMES: Final = ("onnx", "onnx-decoder", "openvino", "llama.cpp")
"""Runtimes whose sessions have their own threads; torch has one thread pool for the process, and compiles for its
size."""
PRODUCTS: Final = ("MatMul", "Gemm")
CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
CLASSICAL: Final = (
    *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "LinearClassifier", "LinearRegressor"),
    *("SVMClassifier", "SVMRegressor", "Scaler", "Normalizer", "Imputer", "LabelEncoder", "OneHotEncoder", "Binarizer"),
    *("ArrayFeatureExtractor", "FeatureVectorizer", "CategoryMapper", "DictVectorizer", "ZipMap"),
)
"""Operators of ai.onnx.ml, such as trees, which OpenVINO lacks."""


def _of_onnx(source: str | None) -> tuple[Recipe, ...]:
    """Return the variants made from an ONNX file: the registered one, or that of the variant `source`."""
    whole = (*PRODUCTS, *CONVOLUTIONS)
    made = (
        Recipe(
            label="onnx-fp16", runtime="onnx", precision="fp16", generator=GeneratorKind.FP16, hardware=_ANY,
            condition=_onnx_no_fp16,
        ),
        Recipe(
            label="onnx-int8dyn", runtime="onnx", precision="int8-dynamic", generator=GeneratorKind.DYNAMIC_INT8,
            operators=PRODUCTS,
        ),
        Recipe(
            label="onnx-int8static", runtime="onnx", precision="int8-static", generator=GeneratorKind.STATIC_INT8,
            operators=whole,
        ),
        Recipe(label="openvino-fp32", runtime="openvino", precision="fp32", hardware=_INTEL, without=CLASSICAL),
        Recipe(label="openvino-bf16", runtime="openvino", precision="bf16", condition=_no_bf16, without=CLASSICAL),
        Recipe(
            label="openvino-fp16", runtime="openvino", precision="fp16", hardware=_INTEL, condition=_no_fp16,
            without=CLASSICAL,
        ),
        Recipe(
            label="openvino-int8nncf", runtime="openvino", precision="int8-nncf", generator=GeneratorKind.NNCF_INT8,
            operators=whole, condition=_missing("nncf", "'infaas[nncf]'"),
        ),
        Recipe(label="onnxtensorrt-fp32", runtime="onnx-tensorrt", precision="fp32", hardware=_CUDA),
        Recipe(label="onnxtensorrt-fp16", runtime="onnx-tensorrt", precision="fp16", hardware=_CUDA),
        Recipe(label="tensorrt-fp32", runtime="tensorrt", precision="fp32", hardware=_CUDA),
        Recipe(
            label="tensorrt-fp16", runtime="tensorrt", precision="fp16", generator=GeneratorKind.FP16, hardware=_CUDA
        ),
        Recipe(
            label="tensorrt-int8", runtime="tensorrt", precision="int8-static", generator=GeneratorKind.SYMMETRIC_INT8,
            hardware=_CUDA, operators=whole,
        ),
        *(_for_neuron("torch-neuron", GeneratorKind.NEURON, batch) for batch in _NEURON_BATCHES),
        *(_for_neuron("torch-neuronx", GeneratorKind.NEURONX, batch) for batch in _NEURON_BATCHES),
    )  # fmt: skip
    static = Recipe(
        label="openvino-int8", runtime="openvino", precision="int8-static", source="onnx-int8static", without=CLASSICAL
    )
    return (*(msgspec.structs.replace(recipe, source=source) for recipe in made), static)


def _is_openvinos_own(recipe: Recipe) -> bool:
    """Return true if the variant is also made of OpenVINO's own format: no tool that needs ONNX is involved."""
    return recipe.runtime == "openvino" and recipe.generator is GeneratorKind.AS_IS and recipe.source is None


def _for_neuron(runtime: str, generator: GeneratorKind, batch: int) -> Recipe:
    """Return the recipe of a graph for batches of one size; the compiler chooses which operators compute in BF16."""
    return Recipe(
        label=f"{runtime.replace('-', '')}-b{batch}", runtime=runtime, precision="auto", generator=generator,
        hardware=(Hardware.NEURON,), condition=_missing("onnx2torch", "onnx2torch"), batch=batch,
    )  # fmt: skip


RECIPES: Final[dict[str, tuple[Recipe, ...]]] = {
    SourceFormat.ONNX: (
        Recipe(label="onnx-fp32", runtime="onnx", precision="fp32", hardware=_ANY),
        *_of_onnx(None),
    ),
    SourceFormat.EXPORTED_PROGRAM: (
        Recipe(label="torch-fp32", runtime="torch-eager", precision="fp32", hardware=_ANY),
        Recipe(label="torchcompile-fp32", runtime="torch-compile", precision="fp32", hardware=_ANY),
        Recipe(
            label="torchaot-fp32", runtime="torch-aot", precision="fp32", generator=GeneratorKind.AHEAD_OF_TIME,
            hardware=_ANY, condition=_no_compiler,
        ),
        Recipe(
            label="onnx-fp32", runtime="onnx", precision="fp32", generator=GeneratorKind.TORCH_TO_ONNX, hardware=_ANY,
            condition=_missing("onnxscript", "'infaas[torch]'"),
        ),
        *_of_onnx("onnx-fp32"),
    ),
    SourceFormat.OPENVINO: tuple(recipe for recipe in _of_onnx(None) if _is_openvinos_own(recipe)),
    SourceFormat.GGUF: (
        Recipe(label="llamacpp-fp32", runtime="llama.cpp", precision="fp32", hardware=_ANY),
        Recipe(
            label="llamacpp-q8-0", runtime="llama.cpp", precision="q8-0", generator=GeneratorKind.GGUF_Q8_0,
            hardware=_ANY, condition=_missing("gguf", "'infaas[generative]'"),
        ),
        Recipe(
            label="llamacpp-q4-0", runtime="llama.cpp", precision="q4-0", generator=GeneratorKind.GGUF_Q4_0,
            hardware=_ANY, condition=_missing("gguf", "'infaas[generative]'"),
        ),
    ),
    SourceFormat.ONNX_DECODER: (
        Recipe(label="onnx-fp32", runtime="onnx-decoder", precision="fp32", hardware=_ANY),
        *(
            msgspec.structs.replace(recipe, runtime="onnx-decoder")
            for recipe in _of_onnx(None)
            if recipe.label in ("onnx-fp16", "onnx-int8dyn")
        ),
    ),
}  # fmt: skip
"""Recipes by format of the registered file. A recipe stands after the recipe of its source."""

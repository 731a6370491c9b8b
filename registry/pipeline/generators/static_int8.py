"""Static INT8 of ONNX models, by onnxruntime's quantiser; chooses the calibration method and the layers left in FP32.

Choices, from measurements on the zoo:
* Minima and maxima suit activations without outliers; entropy or a percentile suits activations with outliers. All
  three methods are tried, and the result closest to the original on the calibration inputs is kept. Accuracy is
  measured on other inputs, so this choice does not bias it. A moving average of minima and maxima clips activations and
  is not used.
* In a model without convolutions only matrix products are quantised: quantising additions, normalisations and softmax
  of a transformer costs more accuracy than it gains speed.
* On CPUs where sums of products saturate, weights get 7 bits.

If even the best method loses more answers than the bound of the request, some layers stay in FP32. Groups of layers are
quantised one group at a time, and the most harmful groups are excluded until the bound holds or half of the groups are
excluded. The search ends within a time budget, with the best result so far.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from registry.pipeline.adaptation.graph import operators_of
from registry.pipeline.generators.onnx import BatchReader, prepare
from registry.quality import agreement
from registry.recipes import CONVOLUTIONS, PRODUCTS, NotApplicable
from registry.samples import Arrays, batches_of, take_rows
from runtimes.catalog import find_runtime
from runtimes.device import int8_saturates
from runtimes.protocol import LoadOptions
from schemas.hardware import Hardware

_METHODS: Final = (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
_BUDGET_S: Final = 120.0
_BATCH: Final = 16
_MOST_ROWS: Final = 128
_MOST_GROUPS: Final = 8


class _Attempt(msgspec.Struct, frozen=True):
    """One quantised model, and its difference from the original."""

    file: Path
    method: CalibrationMethod
    error: float
    """Mean square of the difference, relative to that of the original outputs."""
    lost: float
    """Share of the inputs with a different answer."""
    floats: int = 0
    """Number of layers that stay in FP32."""


def quantise_static(source: Path, target: Path, calibration: Arrays, most_lost: float, batch: int = _BATCH) -> str:
    """Make weights and activations INT8; return a description of the tuning. Raises `NotApplicable`.

    `batch` is the largest batch that the model computes.
    """
    operators = operators_of(source)
    if not operators & {*PRODUCTS, *CONVOLUTIONS}:
        raise NotApplicable("the model has neither matrix product nor convolution to quantise")
    with TemporaryDirectory() as folder:
        tuner = _Tuner(prepare(source, Path(folder)), Path(folder), calibration, operators, min(batch, _BATCH))
        best = tuner.best_method()
        if best.lost > most_lost:
            best = tuner.with_floats(best, most_lost)
        shutil.move(best.file, target)
    method = best.method.name.lower()
    return f"{method}, {best.floats} of {len(tuner.layers)} layers in fp32" if best.floats else method


class _Tuner:
    """Quantises one model in several ways, and compares each result with the original."""

    def __init__(self, model: Path, folder: Path, calibration: Arrays, operators: frozenset[str], batch: int) -> None:
        self._batch = batch
        self._model = model
        self._folder = folder
        self._types = sorted({*QDQRegistry, *QLinearOpsRegistry} if operators & {*CONVOLUTIONS} else PRODUCTS)
        self._calibration = calibration
        self._rows = take_rows(calibration, 0, min(len(next(iter(calibration.values()))), _MOST_ROWS))
        self._original = self._compute(model)
        self._until = time.monotonic() + _BUDGET_S
        self._count = 0
        self.layers = _name_layers(model)
        """Names of the nodes worth quantising, in order."""

    def best_method(self) -> _Attempt:
        """Try the calibration methods within the time budget; return the closest to the original."""
        first, *others = _METHODS
        tried = [self._attempt(first), *(self._attempt(method) for method in others if self._has_time())]
        return min(tried, key=lambda attempt: attempt.error)

    def with_floats(self, best: _Attempt, most_lost: float) -> _Attempt:
        """Exclude the most harmful groups of layers until at most a share of `most_lost` of the answers is lost."""
        alone = [
            (self._attempt(best.method, only=group).error, group) for group in _groups(self.layers) if self._has_time()
        ]
        floats: list[str] = []
        for _, group in sorted(alone, reverse=True)[: len(alone) // 2]:
            floats += group
            attempt = self._attempt(best.method, floats=floats)
            best = min(best, attempt, key=lambda one: (one.lost, one.error))
            if attempt.lost <= most_lost or not self._has_time():
                break
        return best

    def _has_time(self) -> bool:
        return time.monotonic() < self._until

    def _attempt(self, method: CalibrationMethod, only: Sequence[str] = (), floats: Sequence[str] = ()) -> _Attempt:
        self._count += 1
        file = self._folder / f"attempt{self._count}.onnx"
        quantize_static(
            self._model, file, None,
            quant_format=QuantFormat.QDQ, op_types_to_quantize=self._types, per_channel=True,
            reduce_range=int8_saturates(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_quantize=list(only), nodes_to_exclude=list(floats), calibrate_method=method,
            calibration_cache_path=self._ranges(method),
        )  # fmt: skip
        found = self._compute(file)
        error = sum(_relative_error(found[name], array) for name, array in self._original.items())
        lost = max(1.0 - agreement(found[name], array) for name, array in self._original.items())
        return _Attempt(file, method, error, lost, len(floats))

    def _ranges(self, method: CalibrationMethod) -> Path:
        """Return the file with the range of each activation.

        It is written once, in small batches, since all activations are kept in memory.
        """
        file = self._folder / f"{method.name}.json"
        if not file.exists():
            augmented = str(self._folder / f"{method.name}.onnx")
            calibrator: Any = create_calibrator(
                self._model, self._types, augmented, method, extra_options={"symmetric": False}
            )
            for batch in batches_of(self._calibration, self._batch):
                calibrator.collect_data(BatchReader([batch]))
            save_tensors_data(calibrator.compute_data(), file)
        return file

    def _compute(self, model: Path) -> dict[str, Any]:
        session = find_runtime("onnx").load(model, Hardware.CPU, LoadOptions(precision=""))
        parts = [session.infer(batch) for batch in batches_of(self._rows, self._batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _groups(layers: Sequence[str]) -> list[list[str]]:
    """Return adjacent layers in groups, at most `_MOST_GROUPS`."""
    count = min(_MOST_GROUPS, len(layers))
    return [list(part) for part in np.array_split(np.array(layers), count)]


def _name_layers(file: Path) -> list[str]:
    """Name every node, so that it can be excluded; return the names of the layers."""
    model: Any = onnx.load(file)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
    onnx.save(model, file)
    return [node.name for node in model.graph.node if node.op_type in (*PRODUCTS, *CONVOLUTIONS)]


def _relative_error(found: Any, original: Any) -> float:
    if original.dtype.kind != "f":
        return 1.0 - agreement(found, original)
    wide = original.astype(np.float64)
    return float(np.mean((found - wide) ** 2) / max(float(np.mean(wide**2)), 1e-12))

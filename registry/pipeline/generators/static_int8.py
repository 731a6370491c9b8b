"""Static INT8 of ONNX models by onnxruntime's quantiser: which calibration, and which layers stay in FP32.

What was learned by measuring (accuracies on the zoo):
* A moving average of minima and maxima clips activations, so that is never taken. Plain ones are best where activations
  have no outliers, entropy or a percentile where they have: all three are tried, and what is nearest to the model as
  registered, on the calibration inputs, is kept. Accuracy is measured on others, so it is none of a choice's luck.
* In a model without convolutions only the matrix products are quantised: additions, normalisations and softmax of a
  transformer lose more than they gain.
* Where sums of products saturate, weights get 7 bits: with 8 a small classifier fell from 100 % to 79 or 87.

Where even the best loses more answers than the user's bound, layers stay in FP32: they are quantised group by group,
each group alone, and the groups that do most harm are left out until the bound is kept, or half of them are. All of it
ends within a budget of time, with the best that was found.
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
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from registry.pipeline.adaptation.graph import operators_of
from registry.pipeline.generators.onnx import prepare
from registry.pipeline.verification import agreement
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
    """One quantised model, and how far it is from the original."""

    file: Path
    method: CalibrationMethod
    error: float
    """Mean square of the difference, over that of the original outputs."""
    lost: float
    """Share of the inputs that come out different."""
    floats: int = 0
    """Layers that stay in FP32."""


def quantise_static(source: Path, target: Path, calibration: Arrays, most_lost: float, batch: int = _BATCH) -> str:
    """Make weights and activations INT8; returns how it was tuned. Raises `NotApplicable`.

    `batch` is the number of inputs that the model computes at most.
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
    """Quantises one model in several ways, and compares each with the original."""

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
        """Names of the nodes that are worth quantising, in order."""

    def best_method(self) -> _Attempt:
        """Try every way to calibrate that there is time for; the nearest to the original."""
        first, *others = _METHODS
        tried = [self._attempt(first), *(self._attempt(method) for method in others if self._has_time())]
        return min(tried, key=lambda attempt: attempt.error)

    def with_floats(self, best: _Attempt, most_lost: float) -> _Attempt:
        """Leave out the groups of layers that do most harm until no more than `most_lost` is lost."""
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
        """File with the range of each activation; it is made once, in small batches, since all activations are kept."""
        file = self._folder / f"{method.name}.json"
        if not file.exists():
            augmented = str(self._folder / f"{method.name}.onnx")
            calibrator: Any = create_calibrator(
                self._model, self._types, augmented, method, extra_options={"symmetric": False}
            )
            for batch in batches_of(self._calibration, self._batch):
                calibrator.collect_data(_One(batch))
            save_tensors_data(calibrator.compute_data(), file)
        return file

    def _compute(self, model: Path) -> dict[str, Any]:
        session = find_runtime("onnx").load(model, Hardware.CPU, LoadOptions(precision=""))
        parts = [session.infer(batch) for batch in batches_of(self._rows, self._batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _One(CalibrationDataReader):
    """A single batch."""

    def __init__(self, batch: Arrays) -> None:
        self._batches = iter([batch])

    def get_next(self) -> Any:
        return next(self._batches, None)


def _groups(layers: Sequence[str]) -> list[list[str]]:
    """Neighbours together, in at most so many groups."""
    count = min(_MOST_GROUPS, len(layers))
    return [list(part) for part in np.array_split(np.array(layers), count)]


def _name_layers(file: Path) -> list[str]:
    """Give every node a name, by which it can be left out; returns those of the layers."""
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

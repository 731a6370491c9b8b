"""Workloads: the model that every server gets, the inputs, the latency objective, and the check of the answers."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from bench.load.http_message import RawAnswer, SampledAnswer
from registry.pipeline.generators.onnx import quantise_dynamic
from schemas.tensors import Array
from zoo.catalog import MODELS
from zoo.minilm import build_minilm
from zoo.samples import labelled

FP32: Final = "onnx-fp32"
INT8: Final = "onnx-int8dyn"
INPUTS: Final = 8
"""Number of different inputs, so that an answer to the wrong query is noticed."""
INPUTS_OF_MIX: Final = 200
"""Number of inputs of a mix, large enough that a cascade's confidence on them is typical."""

_BATCH: Final = 4
_BATCHES: Final = 8
"""Number of batches of this size with each input, for the reference outputs."""
Check = Callable[[Sequence[SampledAnswer]], None]
"""Function that raises `RuntimeError` if an answer is wrong."""


class PeerWorkload:
    """Queries of one kind. Clients require one accuracy, or several in equal parts: a mix.

    Args:
        name: name in the tables.
        model: architecture and precision that the peers serve: the cheapest that meets all accuracies.
        objective_ms: latency up to which an answer is in time.
        accuracies: required accuracies.
        heavy: true if the model takes milliseconds, not microseconds.
    """

    def __init__(
        self,
        name: str,
        model: tuple[str, str],
        *,
        objective_ms: float,
        accuracies: tuple[float, ...],
        heavy: bool,
    ) -> None:
        self.name = name
        self.architecture, self.precision = model
        self.objective_ms = objective_ms
        self.accuracies = accuracies
        self.heavy = heavy

    @property
    def variant(self) -> str:
        """Name of the peers' model in our registry."""
        return f"{self.architecture}.{self.precision}.cpu"

    @property
    def task(self) -> str:
        """Task of the model in the zoo."""
        return next(model.task for model in MODELS if model.architecture == self.architecture)

    @property
    def tolerance(self) -> float:
        """Largest deviation from the reference outputs; larger for dynamic INT8, whose outputs depend on the batch."""
        return 0.01 if self.precision == FP32 else 0.75

    @cached_property
    def inputs(self) -> list[dict[str, Array]]:
        """Inputs of the queries, each a batch of one."""
        arrays, _labels = labelled(self.task)
        count = INPUTS if len(self.accuracies) == 1 else INPUTS_OF_MIX
        return [{name: array[at : at + 1] for name, array in arrays.items()} for at in range(count)]


WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        PeerWorkload("S", ("mnist-cnn-m", FP32), objective_ms=50, accuracies=(0.98,), heavy=False),
        PeerWorkload("H", ("minilm-l6", FP32), objective_ms=150, accuracies=(0.87,), heavy=True),
        PeerWorkload("sentiment mix", ("minilm-l6", INT8), objective_ms=150, accuracies=(0.87, 0.8), heavy=True),
        PeerWorkload("mnist mix", ("mnist-cnn-m", FP32), objective_ms=50, accuracies=(0.98, 0.9), heavy=False),
    )
}


def model_file(workload: PeerWorkload, cache: Path) -> Path:
    """Return the ONNX file of a workload, made in the cache if the zoo has none; blocks for seconds."""
    model = next(model for model in MODELS if model.architecture == workload.architecture)
    fp32 = model.file or cache / f"{model.architecture}.onnx"
    if not fp32.exists():
        build_minilm(model.minilm_depth, fp32)
    if workload.precision == FP32:
        return fp32
    int8 = cache / f"{model.architecture}-int8dyn.onnx"
    if not int8.exists():
        quantise_dynamic(fp32, int8)
    return int8


def reference_outputs(workload: PeerWorkload, file: Path) -> list[Array]:
    """Compute the model's output for each input, one row for each time it was computed; blocks.

    Each input is computed alone. With dynamic INT8, whose scales depend on the batch, it is also computed in batches.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rows = [[np.asarray(session.run(None, inputs)[0])] for inputs in workload.inputs]
    random = np.random.default_rng(0)
    for _ in range(0 if workload.precision == FP32 else _BATCHES):
        order = random.permutation(len(rows))
        for batch in np.split(order, range(_BATCH, len(order), _BATCH)):
            asked = [workload.inputs[at] for at in batch]
            shared = {name: np.concatenate([inputs[name] for inputs in asked]) for name in asked[0]}
            for at, row in zip(batch, np.asarray(session.run(None, shared)[0]), strict=True):
                rows[at].append(row[None])
    return [np.concatenate(each) for each in rows]


def reference_check(workload: PeerWorkload, reference: Sequence[Array], output: Callable[[RawAnswer], Array]) -> Check:
    """Return a check that answers equal the reference outputs.

    Args:
        workload: the workload of the answers.
        reference: rows of the model's outputs for each input: computed alone, and in batches if those differ.
        output: parses an answer.
    """
    ranges = [(rows.min(axis=0, keepdims=True), rows.max(axis=0, keepdims=True)) for rows in reference]

    def check(samples: Sequence[SampledAnswer]) -> None:
        for sample in samples:
            given, (low, high) = output(sample.answer), ranges[sample.request]
            if given.shape != low.shape or not np.allclose(given, given.clip(low, high), atol=workload.tolerance):
                expected = reference[sample.request]
                raise RuntimeError(f"{workload.name}: the answer to input {sample.request} is {given}, not {expected}")

    return check

"""Inputs and outputs of a model, and the check whether they fulfil a task.

Rules:
* The first dimension of every input and output is the batch. It must be variable, or 1 in all of them.
* A model accepts all that the task promises its clients: each of its inputs is an input of the task, with the same
  datatype and a shape at least as wide. It may ignore inputs of the task.
* If an input holds row numbers of a table, such as tokens of a vocabulary, the table has every row that the task
  allows. Runtimes do not check this: onnxruntime takes -1 for the last row, and a GPU reads any memory.
* A model has exactly the outputs that the task promises.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.errors import InvalidRequest
from schemas.rows.catalog import Task, TensorSpec
from schemas.tensors import datatype_of

ALONE: Final = "it was exported for one input at a time and computes batches wrongly: inputs are computed one by one"
VARIABLE: Final = -1
"""Size of a dimension that may have any size."""
_SCORES: Final = ("scores", "logits", "probabilities")
"""Names that exporters give to the scores of classes."""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    named: bool = True
    """True if the model itself names its outputs; an exported program that returns a tensor does not."""

    def check_batch(self) -> None:
        """Raise `InvalidRequest` unless there are inputs and outputs, all with a variable batch or all with 1."""
        alone = all(spec.shape[:1] == (1,) for spec in (*self.inputs, *self.outputs))
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            if not specs:
                raise InvalidRequest(f"the model has no {kind}")
            for spec in specs if not alone else ():
                _check_batch(kind, spec)

    def of_one(self) -> "Signature":
        """Return the signature with a variable batch, for a model that is served one input at a time."""
        free = ((replace(s, shape=(VARIABLE, *s.shape[1:])) for s in specs) for specs in (self.inputs, self.outputs))
        inputs, outputs = map(tuple, free)
        return replace(self, inputs=inputs, outputs=outputs)

    def with_parameters(self, names: Sequence[str]) -> "Signature":
        """Return the signature with the inputs `names` as parameters, which have one value for a query.

        Raises:
            InvalidRequest: one of them is a text, since parameters are numbers.
        """
        for spec in self.inputs:
            if spec.name in names and spec.datatype == "BYTES":
                raise InvalidRequest(f"input {spec.name!r} is a scalar text, which no query can set")
        return replace(self, inputs=tuple(replace(spec, parameter=spec.name in names) for spec in self.inputs))

    def with_defaults(self, rows: Mapping[str, NDArray[Any]]) -> "Signature":
        """Return the signature with the parameters' values in these rows as their defaults."""
        inputs = tuple(
            replace(spec, default=rows[spec.name].flat[0].item()) if spec.parameter else spec for spec in self.inputs
        )
        return replace(self, inputs=inputs)

    def output(self, name: str | None, *, per_token: bool = False) -> TensorSpec:
        """Return the output that is measured: the named, the only, or the only scores; raises `InvalidRequest`.

        With `per_token`, it is the only output of the shape [batch, tokens, numbers], which is to be pooled.
        """
        names = ", ".join(output.name for output in self.outputs)
        if name is not None:
            found = [output for output in self.outputs if output.name == name]
            if not found:
                raise InvalidRequest(f"the model has no output {name!r}; it has {names}")
            return found[0]
        if len(self.outputs) == 1:
            return self.outputs[0]
        rank = 3 if per_token else 2
        floats = [output for output in self.outputs if output.datatype.startswith("FP") and len(output.shape) == rank]
        likely = [output for output in self.outputs if output.name in _SCORES and not per_token] or floats
        if len(likely) != 1:
            raise InvalidRequest(f"the model has several outputs ({names}): choose the measured one by --output")
        return likely[0]

    def named_after(self, task: Task | None) -> "Signature":
        """Return the signature with the task's output names, in order, if the model itself names none."""
        if self.named or task is None or len(task.outputs) != len(self.outputs):
            return self
        outputs = tuple(
            replace(ours, name=promised.name) for promised, ours in zip(task.outputs, self.outputs, strict=True)
        )
        return replace(self, outputs=outputs)

    def narrowed_to(self, task: Task) -> tuple[TensorSpec, ...]:
        """Return the outputs in the task's shapes where the model's own are wider; the model must fulfil the task."""
        promised = {spec.name: spec.shape for spec in task.outputs}
        return tuple(
            replace(ours, shape=tuple(max(sizes) for sizes in zip(ours.shape, promised[ours.name], strict=True)))
            for ours in self.outputs
        )


def check_task(task: Task, model: Signature) -> None:
    """Raise `InvalidRequest` naming the first difference, unless the model fulfils the task."""
    promised = {spec.name: spec for spec in task.inputs}
    for spec in model.inputs:
        if spec.name not in promised:
            raise InvalidRequest(f"task {task.name} has no input {spec.name!r}; it has {', '.join(promised)}")
        _check_spec(task, "input", promised[spec.name], spec)
        _check_bound(task, promised[spec.name], spec)
    given = {spec.name: spec for spec in model.outputs}
    if set(given) != {spec.name for spec in task.outputs}:
        wanted = ", ".join(spec.name for spec in task.outputs)
        raise InvalidRequest(f"task {task.name} has the outputs {wanted}; the model has {', '.join(given)}")
    for spec in task.outputs:
        _check_spec(task, "output", spec, given[spec.name])


def _check_spec(task: Task, kind: str, promised: TensorSpec, model: TensorSpec) -> None:
    where = f"task {task.name}: {kind} {promised.name!r}"
    if promised.datatype != model.datatype:
        raise InvalidRequest(f"{where} is {promised.datatype}, but {model.datatype} in the model")
    narrower = kind == "input" and any(
        ours == VARIABLE != theirs for ours, theirs in zip(promised.shape, model.shape, strict=False)
    )
    if narrower or not fits(model.shape, promised.shape):
        raise InvalidRequest(f"{where} has the shape {_shown(promised.shape)}, but {_shown(model.shape)} in the model")


def _check_bound(task: Task, promised: TensorSpec, model: TensorSpec) -> None:
    if promised.below is not None and model.below is not None and model.below < promised.below:
        raise InvalidRequest(
            f"task {task.name}: input {promised.name!r} goes up to {promised.below - 1}, the model's table has "
            f"{model.below} rows"
        )


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return true if two shapes may be equal; -1 stands for any size."""
    return len(shape) == len(wanted) and all(
        VARIABLE in (ours, theirs) or ours == theirs for ours, theirs in zip(shape, wanted, strict=True)
    )


def _check_batch(kind: str, spec: TensorSpec) -> None:
    if not spec.shape:
        raise InvalidRequest(
            f"{kind} {spec.name!r} is a scalar, which only ONNX models may have: export the model to ONNX"
        )
    if spec.shape[0] != VARIABLE:
        raise InvalidRequest(
            f"{kind} {spec.name!r} has the shape {_shown(spec.shape)}: the first dimension is the batch and must be "
            "variable; set the batch's dimension by --batch-axis (of ONNX; `none` if the model has no batch), or "
            "export the model with a dynamic batch dimension"
        )


def _shown(shape: Sequence[int]) -> str:
    return str(list(shape))


def datatype_from(kind: str, name: str, dtype: Any) -> str:
    """Return the protocol's datatype for a numpy dtype; raises `InvalidRequest` if there is none."""
    try:
        return datatype_of(np.empty(0, dtype))
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error

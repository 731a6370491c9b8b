"""A model with processing around it: the signature that clients see, and the tensors that the model gets."""

from pathlib import Path

from msgspec.structs import replace

from registry.signature import VARIABLE, Signature
from runtimes.padding import Arrays, stack_padded
from runtimes.processing.classes import CLASS, LABEL, read_class_names
from runtimes.processing.session import load_before
from schemas.errors import InvalidRequest
from schemas.rows.processing import Processing, TopClasses
from schemas.rows.tensor_spec import TensorSpec


def processed_signature(model: Signature, processing: Processing, scores: TensorSpec) -> Signature:
    """Return the signature of a model with `processing` around it; its output `scores` holds the scores of the classes.

    Raises:
        InvalidRequest: the steps do not fit the model.
    """
    outputs = list(model.outputs)
    if processing.after and (len(scores.shape) != 2 or scores.datatype not in ("FP16", "FP32", "FP64")):
        raise InvalidRequest(
            f"probabilities and classes need FP32 scores of the shape [batch, classes]; {scores.name!r} is "
            f"{scores.datatype} {list(scores.shape)}"
        )
    for step in processing.after:
        if isinstance(step, TopClasses):
            outputs.append(_class_spec(step, scores))
        else:
            outputs = [replace(spec, datatype="FP32") if spec.name == scores.name else spec for spec in outputs]
    names = [spec.name for spec in outputs]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"the model's outputs ({', '.join(names)}) and those of its processing share a name")
    given = TensorSpec(name=processing.before.input, datatype="BYTES", shape=(VARIABLE,))
    return replace(model, inputs=(given,), outputs=tuple(outputs))


def model_tensors(samples: Arrays, processing: Processing) -> Arrays:
    """Return the model's tensors for inputs as clients send them, each stacked in one array with padding; blocks.

    Raises:
        InvalidRequest: an input cannot be read; the message names it.
    """
    before = load_before(processing, processing.tensors)
    rows: list[Arrays] = []
    for number, value in enumerate(samples[processing.before.input].reshape(-1).tolist()):
        try:
            rows.append(before(value))
        except InvalidRequest as error:
            raise InvalidRequest(f"{processing.before.input} {number} of the samples: {error}") from error
    return stack_padded(rows, before.fill)


def labels_of(processing: Processing | None) -> tuple[str, ...]:
    """Return the class names of the steps after a model; empty if they have none; blocks.

    Raises:
        OperatorError: the file of names cannot be read.
        InvalidRequest: it contains no names.
    """
    steps = processing.after if processing is not None else ()
    files = [step.labels for step in steps if isinstance(step, TopClasses) and step.labels]
    return read_class_names(Path(files[0])) if files else ()


def _class_spec(step: TopClasses, scores: TensorSpec) -> TensorSpec:
    if 0 < scores.shape[1] < step.count:
        raise InvalidRequest(f"{step.count} best classes are requested, but the model has {scores.shape[1]}")
    name, datatype = (LABEL, "BYTES") if step.labels else (CLASS, "INT64")
    return TensorSpec(name=name, datatype=datatype, shape=(VARIABLE, step.count))

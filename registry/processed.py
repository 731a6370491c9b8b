"""The signature that clients see of a model with processing around it."""

from msgspec.structs import replace

from registry.signature import VARIABLE, Signature
from runtimes.processing.classes import CLASS, LABEL
from schemas.errors import InvalidRequest
from schemas.rows.processing import Processing, TopClasses
from schemas.rows.tensor_spec import TensorSpec


def processed_signature(model: Signature, processing: Processing, scores: TensorSpec) -> Signature:
    """What is taken and given with `processing` around a model, whose output `scores` holds its scores.

    Raises:
        InvalidRequest: the steps do not fit the model.
    """
    outputs = list(model.outputs)
    if processing.after and (len(scores.shape) != 2 or scores.datatype not in ("FP16", "FP32", "FP64")):
        raise InvalidRequest(
            f"probabilities and classes are made of scores, FP32 of the shape [batch, classes]; {scores.name!r} is "
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


def _class_spec(step: TopClasses, scores: TensorSpec) -> TensorSpec:
    if 0 < scores.shape[1] < step.count:
        raise InvalidRequest(f"the best {step.count} classes are asked for, but the model knows {scores.shape[1]}")
    name, datatype = (LABEL, "BYTES") if step.labels else (CLASS, "INT64")
    return TensorSpec(name=name, datatype=datatype, shape=(VARIABLE, step.count))

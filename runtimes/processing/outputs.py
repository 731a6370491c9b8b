"""Outputs of a model with its processing steps, as specifications. Pure.

A model of texts may answer each token: its outputs have an axis of the length of the text. Texts that are computed
together are padded, so these outputs are as long as the longest text of the query, with zeros, or empty texts, behind
the end of a shorter one. The output `lengths` is the number of tokens of each text. If tokens get labels, `offsets` are
the characters of each token, from the first to the one after the last.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from schemas.errors import InvalidRequest
from schemas.rows.catalog import PoolTokens, Processing, Softmax, TopClasses
from schemas.signature import TensorSpec

CLASS: Final = "class"
LABEL: Final = "label"
EMBEDDING: Final = "sentence_embedding"
LENGTHS: Final = "lengths"
OFFSETS: Final = "offsets"
SEQUENCE: Final = "sequence"
"""Name of the axis of tokens."""
_FLOATS: Final = ("FP16", "FP32", "FP64")


def processed_outputs(processing: Processing, returned: Sequence[TensorSpec], scores: str) -> tuple[TensorSpec, ...]:
    """Return the outputs of a model with its processing.

    Args:
        processing: the steps.
        returned: outputs of the model itself, with `SEQUENCE` as the name of the axis of tokens.
        scores: name of the output that the steps after the model change.

    Raises:
        InvalidRequest: a step does not fit the outputs; the message names both.
    """
    specs = {spec.name: spec for spec in returned}
    for step in processing.after:
        if scores not in specs:
            raise InvalidRequest(f"no step may follow the pooling of {scores!r}")
        match step:
            case Softmax():
                _check_scores(specs[scores])
                specs[scores] = replace(specs[scores], datatype="FP32")
            case TopClasses():
                _check_scores(specs[scores])
                _add(specs, _class_spec(step, specs[scores]))
            case PoolTokens():
                _add(specs, _pooled(specs.pop(scores)))
    if any(SEQUENCE in spec.sequences for spec in specs.values()):
        _add(specs, TensorSpec(name=LENGTHS, datatype="INT64", shape=(-1,)))
        if SEQUENCE in specs.get(LABEL, specs[LENGTHS]).sequences:
            _add(specs, TensorSpec(name=OFFSETS, datatype="INT64", shape=(-1, -1, 2), axes=("", SEQUENCE, "")))
    return tuple(specs.values())


def with_token_axis(specs: Sequence[TensorSpec], name: str) -> tuple[TensorSpec, ...]:
    """Return outputs whose axis `name` is called `SEQUENCE`; other names are removed, since clients send no tensors."""
    return tuple(
        replace(
            spec, axes=tuple(SEQUENCE if one == name else "" for one in spec.axes) if name and name in spec.axes else ()
        )
        for spec in specs
    )


def _add(specs: dict[str, TensorSpec], spec: TensorSpec) -> None:
    if spec.name in specs:
        names = ", ".join(specs)
        raise InvalidRequest(f"the model's outputs ({names}) and those of its processing share the name {spec.name!r}")
    specs[spec.name] = spec


def _check_scores(scores: TensorSpec) -> None:
    per_token = len(scores.shape) == 3 and scores.sequences.get(SEQUENCE) == 1
    if not (len(scores.shape) == 2 or per_token) or scores.datatype not in _FLOATS:
        raise InvalidRequest(
            f"probabilities and classes need FP32 scores of the shape [batch, classes], or [batch, tokens, classes]; "
            f"{scores.name!r} is {scores.datatype} {list(scores.shape)}"
        )


def _class_spec(step: TopClasses, scores: TensorSpec) -> TensorSpec:
    if 0 < scores.shape[-1] < step.count:
        raise InvalidRequest(f"{step.count} best classes are requested, but the model has {scores.shape[-1]}")
    name, datatype = (LABEL, "BYTES") if step.labels else (CLASS, "INT64")
    return replace(scores, name=name, datatype=datatype, shape=(*scores.shape[:-1], step.count))


def _pooled(tokens: TensorSpec) -> TensorSpec:
    if len(tokens.shape) != 3 or tokens.sequences.get(SEQUENCE) != 1 or tokens.datatype not in _FLOATS:
        raise InvalidRequest(
            f"pooling needs vectors of tokens, FP32 of the shape [batch, tokens, numbers]; {tokens.name!r} is "
            f"{tokens.datatype} {list(tokens.shape)}: name the output by --output"
        )
    return TensorSpec(name=EMBEDDING, datatype="FP32", shape=(-1, tokens.shape[2]))

"""Queries for vectors: from texts or token ids to a request of the Open Inference Protocol, and from its result back.

All inputs of a call become one query. It is refused or answered as a whole, and one variant computes all its vectors,
which are therefore comparable; a selector decides once, and by the number of inputs. A worker computes a large query
in parts, texts of similar length together.

Vectors of different models of a task are comparable only if the task's measure, `cosine`, compares them with the same
reference. So a task is an embedding task by its measure, and `min_accuracy` is a bound of the deviation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.model_directory import ServedModel
from registry.quality import COSINE
from schemas.errors import Internal, InvalidRequest
from schemas.oip import EncodedMessage, decode_response, encode_request
from schemas.openai import MOST_INPUTS
from schemas.query_names import Parameter
from schemas.result import Result
from schemas.rows.catalog import TensorSpec
from schemas.tensors import bytes_array, dtype_of

Tokens: TypeAlias = list[int]
Inputs: TypeAlias = list[str] | list[Tokens]
Vectors: TypeAlias = NDArray[np.float32]

_COUNT: Final = "tokens"
"""Output with the number of tokens of each text, if the model has it."""
_IDS: Final = "input_ids"
_ONES: Final = "attention_mask"
_ZEROS: Final = "token_type_ids"
_MOST_ID: Final = 2**31 - 1


class VectorResult(NamedTuple):
    """Vectors of a result."""

    vectors: Vectors
    """Shape [inputs, dimensions]."""
    tokens: int | None
    """Number of tokens that the model read; None: it does not report that."""


def vector_output(model: ServedModel) -> TensorSpec:
    """Return the output of an embedding task that holds the vectors.

    Raises:
        InvalidRequest: it is no embedding task.
    """
    outputs = {spec.name: spec for spec in model.outputs}
    output = outputs.get(model.measured_output, model.outputs[0])
    if model.measure != COSINE or len(output.shape) != 2 or not output.datatype.startswith("FP"):
        raise InvalidRequest(
            f"$.model: {model.name} computes no vectors: its task is measured by {model.measure}, and that of an "
            f"embedding task is {COSINE}"
        )
    return output


def check_dimensions(model: ServedModel, dimensions: int | None) -> None:
    """Raise `InvalidRequest` if vectors of another length than the model's are requested."""
    own = vector_output(model).shape[1]
    if dimensions is not None and dimensions != own:
        raise InvalidRequest(f"$.dimensions: vectors of {model.name} have {own} dimensions and cannot be shortened")


def encode_query(model: ServedModel, inputs: Inputs, needs: Mapping[str, Parameter]) -> EncodedMessage:
    """Return the query for the vectors of texts or token ids.

    Raises:
        InvalidRequest: the model does not take such inputs, or is no embedding task.
    """
    if not 0 < len(inputs) <= MOST_INPUTS:
        raise InvalidRequest(f"$.input: give 1 to {MOST_INPUTS} inputs, not {len(inputs)}")
    wanted = [vector_output(model).name]
    if any(spec.name == _COUNT for spec in model.outputs):
        wanted.append(_COUNT)
    texts = [one for one in inputs if isinstance(one, str)]
    arrays = _text_tensors(model, texts) if len(texts) == len(inputs) else _id_tensors(model, inputs)
    return encode_request(arrays, parameters=needs, outputs=wanted)


def decode_vectors(output: str, result: Result) -> VectorResult:
    """Return the vectors of a result; `output` is the name of the output with them.

    Raises:
        Internal: the result has no such output.
    """
    outputs = decode_response(result.value, result.json_length).outputs
    vectors, counts = outputs.get(output), outputs.get(_COUNT)
    if vectors is None or vectors.ndim != 2:
        raise Internal("the answer has no vectors")
    return VectorResult(vectors.astype(np.float32, copy=False), None if counts is None else int(counts.sum()))


def token_ids(inputs: Inputs) -> int:
    """Return the number of token ids in the inputs; 0 for texts."""
    return sum(len(one) for one in inputs if not isinstance(one, str))


def _text_tensors(model: ServedModel, texts: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    if len(model.inputs) != 1 or model.inputs[0].datatype != "BYTES":
        raise InvalidRequest(f"$.input: {model.name} takes no texts, but {_shown(model)}")
    spec = model.inputs[0]
    return {spec.name: bytes_array(texts).reshape(-1, *[1] * (len(spec.shape) - 1))}


def _id_tensors(model: ServedModel, inputs: Inputs) -> dict[str, NDArray[np.generic]]:
    specs = {spec.name: spec for spec in model.inputs}
    if _IDS not in specs or not specs.keys() <= {_IDS, _ONES, _ZEROS}:
        raise InvalidRequest(
            f"$.input: {model.name} takes no token ids, but {_shown(model)}: send texts (langchain-openai sends token "
            "ids of OpenAI's models unless check_embedding_ctx_length=False)"
        )
    rows = [row for row in inputs if not isinstance(row, str)]
    length = max(map(len, rows))
    if min(map(len, rows)) < length and _ONES not in specs:
        raise InvalidRequest(f"$.input: {model.name} takes token ids of equal length only")
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    made = {_IDS: ids, _ONES: mask, _ZEROS: np.zeros_like(ids)}
    return {name: made[name].astype(dtype_of(spec.datatype, name)) for name, spec in specs.items()}


def read_inputs(raw: msgspec.Raw) -> Inputs:
    """Read OpenAI's `input`: a text, a list of texts, a list of token ids, or a list of such lists.

    Raises:
        InvalidRequest: it is none of them.
    """
    try:
        found = _inputs.decode(raw)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"$.input: {error}; {_FORMS}") from None
    if isinstance(found, str):
        return [found]
    texts = [one for one in found if isinstance(one, str)]
    if len(texts) == len(found):
        return texts
    ids = [one for one in found if isinstance(one, int)]
    rows = [ids] if len(ids) == len(found) else [one for one in found if isinstance(one, list)]
    if len(ids) not in (0, len(found)) or (not ids and len(rows) != len(found)) or not all(rows):
        raise InvalidRequest(f"$.input: {_FORMS}")
    if not all(0 <= token <= _MOST_ID for token in _flat(rows)):
        raise InvalidRequest(f"$.input: token ids are 0 to {_MOST_ID}")
    return rows


def _flat(rows: Sequence[Tokens]) -> Iterator[int]:
    return (token for row in rows for token in row)


def _shown(model: ServedModel) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in model.inputs)


_FORMS: Final = "give a text, a list of texts, a list of token ids, or a list of lists of token ids"
_inputs: Final = msgspec.json.Decoder(str | list[str | int | list[int]])

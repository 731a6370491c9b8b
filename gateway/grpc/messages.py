"""Messages of inference: `ModelInferRequest` to the form that workers read, their result to `ModelInferResponse`.

* Workers read and write Open Inference Protocol requests in JSON with binary tensors.
* Raw contents are appended to the JSON unchanged; this is their only copy here. Outputs are always requested in binary
  form, like raw contents, and are copied once, too.
* Typed contents become binary. Only their form is checked here; `schemas/oip.py` checks the rest when the JSON is read,
  so that both protocols report the same errors.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import orjson
from google.protobuf.message import DecodeError

from gateway.grpc.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from gateway.grpc.wire import Piece, field, joined, split_field
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.generated_answer import GeneratedAnswer
from schemas.generation import TEXT_OUTPUT, AnswerPart
from schemas.oip import ALIGNMENT, ResponseHead
from schemas.query_names import BINARY_OUTPUT, Parameter
from schemas.result import Result
from schemas.tensors import BYTES, bytes_array, dtype_of, to_binary

_RAW_INPUTS: Final = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_SHARED_MEMORY: Final = "shared_memory_region"
_FORM: Final = "binary_data"
"""Parameter of an output with which HTTP clients choose between JSON and binary."""
_CONTENTS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Field of the contents by datatype; other datatypes have raw contents only."""
_RAW_OUTPUTS: Final = ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_STREAMED: Final = ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_FINAL: Final = "triton_final_response"
"""Parameter of a streamed response that marks the last response to a request for Triton's clients."""
_decode: Final = msgspec.json.Decoder(ResponseHead).decode
_MAX_INT64: Final = 2**63 - 1
_ENDS: Final = frozenset({TEXT_OUTPUT, "finish_reason", "prompt_tokens", "completion_tokens"})
"""Outputs of which the end of a generative answer is made."""
_V = TypeVar("_V")


class InferMessage(NamedTuple):
    """A `ModelInferRequest` whose raw contents are views of the received bytes."""

    head: ModelInferRequest
    raw: list[memoryview]


class OipRequest(NamedTuple):
    """A request in the form that workers read."""

    value: bytes
    json_length: int
    parameters: Mapping[str, Parameter]


def read_message(message: bytes) -> InferMessage:
    """Parse a `ModelInferRequest`.

    Raises:
        InvalidRequest: the message is no `ModelInferRequest`.
    """
    rest, raw = split_field(message, _RAW_INPUTS)
    try:
        return InferMessage(ModelInferRequest.FromString(rest), raw)
    except DecodeError:
        raise InvalidRequest("the message is no ModelInferRequest") from None


def oip_request(message: InferMessage, max_bytes: int) -> OipRequest:
    """Return the request in the form for workers, of at most `max_bytes`.

    Raises:
        InvalidRequest: it would be larger, or its contents are invalid; the message says where.
    """
    head, raw = message
    contents: Sequence[bytes | memoryview] = _raw_contents(head, raw) if raw else _typed_contents(head, max_bytes)
    parameters = _parameters(head.parameters, "$.parameters")
    fields: dict[str, object] = {"id": head.id} if head.id else {}
    fields["parameters"] = {**parameters, BINARY_OUTPUT: True}
    fields["inputs"] = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(head.inputs, contents, strict=True)
    ]
    if head.outputs:
        fields["outputs"] = [_wanted(output, f"$.outputs[{index}]") for index, output in enumerate(head.outputs)]
    text = orjson.dumps(fields)
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) + sum(map(len, contents)) > max_bytes:
        raise _too_large(max_bytes)
    return OipRequest(b"".join((text, *contents)), len(text), parameters)


def _raw_contents(head: ModelInferRequest, raw: Sequence[memoryview]) -> Sequence[memoryview]:
    for index, tensor in enumerate(head.inputs):
        _refuse_shared_memory(tensor, f"$.inputs[{index}]")
        if tensor.HasField("contents"):
            raise InvalidRequest(f"$.inputs[{index}].contents: must be left out where raw_input_contents are given")
    if len(raw) != len(head.inputs):
        raise InvalidRequest(f"$.raw_input_contents: there are {len(raw)} for {len(head.inputs)} inputs")
    return raw


def _typed_contents(head: ModelInferRequest, max_bytes: int) -> list[bytes]:
    found, left = list[bytes](), max_bytes
    for index, tensor in enumerate(head.inputs):
        _refuse_shared_memory(tensor, f"$.inputs[{index}]")
        found.append(_typed(tensor, f"$.inputs[{index}].contents", left))
        left -= len(found[-1])
    return found


def _typed(tensor: ModelInferRequest.InferInputTensor, where: str, max_bytes: int) -> bytes:
    """Return the contents of a tensor in binary form; check the size first, since numbers may grow."""
    dtype, field = dtype_of(tensor.datatype, f"{where[: -len('.contents')]}.datatype"), _CONTENTS.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(f"{where}: {tensor.datatype} has no typed contents; send it as raw_input_contents")
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if filled and filled != [field]:
        raise InvalidRequest(f"{where}: {tensor.datatype} goes into {field}, not into {' and '.join(filled)}")
    values = getattr(tensor.contents, field)
    wanted = math.prod(tensor.shape)
    if len(values) != wanted and all(length >= 0 for length in tensor.shape):
        raise InvalidRequest(f"{where}: shape {list(tensor.shape)} needs {wanted} elements, {field} has {len(values)}")
    if len(values) * (4 if dtype is BYTES else dtype.itemsize) > max_bytes:
        raise _too_large(max_bytes)
    if dtype is BYTES:
        return to_binary(bytes_array(values))
    try:
        return np.fromiter(values, dtype, len(values)).tobytes()
    except OverflowError:
        raise InvalidRequest(f"{where}.{field}: a number does not fit {tensor.datatype}") from None


def _refuse_shared_memory(tensor: ModelInferRequest.InferInputTensor, where: str) -> None:
    if _SHARED_MEMORY in tensor.parameters:
        raise InvalidRequest(f"{where}: shared memory is not supported; send the tensor itself")


def _wanted(output: ModelInferRequest.InferRequestedOutputTensor, where: str) -> dict[str, object]:
    parameters = _parameters(output.parameters, f"{where}.parameters")
    form = {name: value for name, value in parameters.items() if name != _FORM}
    return {"name": output.name, "parameters": form} if form else {"name": output.name}


def _parameters(given: Mapping[str, InferParameter], where: str) -> dict[str, Parameter]:
    found = dict[str, Parameter]()
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"{where}.{name[:80]}: has no value")
        found[name] = getattr(parameter, choice)
    return found


def _too_large(max_bytes: int) -> InvalidRequest:
    return InvalidRequest(f"the request exceeds the limit of this gateway ({max_bytes} bytes)")


def infer_response(result: Result) -> bytes:
    """Return the encoded response to a call.

    Raises:
        Internal: the result is no v2 response, or not in binary form.
    """
    return joined(_pieces(result, {}))


def streamed_response(result: Result) -> bytes:
    """Return the encoded response to a request of a stream; raises as `infer_response`."""
    return joined(field(_STREAMED, _pieces(result, {_FINAL: True})))


def streamed_part(model_name: str, request_id: str, part: AnswerPart) -> bytes:
    """Return the encoded response with a part of a generative answer."""
    told: dict[str, object] = {_FINAL: False, "tokens": part.tokens}
    if part.logprobs:
        told["logprobs"] = msgspec.json.encode(part.logprobs).decode()
    return _texts(ModelInferResponse(model_name=model_name, id=request_id), {TEXT_OUTPUT: part.text}, told)


def with_end(message: InferMessage) -> InferMessage:
    """Return a request for the outputs that `streamed_end` needs, besides the named ones."""
    if not message.head.outputs:
        return message
    head = ModelInferRequest()
    head.CopyFrom(message.head)
    missing = _ENDS - {output.name for output in head.outputs}
    head.outputs.extend(ModelInferRequest.InferRequestedOutputTensor(name=name) for name in sorted(missing))
    return message._replace(head=head)


def streamed_end(result: Result, answer: GeneratedAnswer, wanted: Collection[str] = ()) -> bytes:
    """Return the encoded response that ends a generative answer: its values beside the text, which was sent before.

    It has only the `wanted` values, unless there are none.
    """
    try:
        head = _decode(memoryview(result.value)[: result.json_length or len(result.value)])
    except msgspec.MsgspecError as error:
        raise Internal(f"the answer is not a v2 response: {error}") from None
    numbers = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "mean_logprob": answer.mean_logprob,
    }
    texts = {TEXT_OUTPUT: "", "finish_reason": answer.finish_reason}
    told = head.parameters | {_FINAL: True} | _only(numbers, wanted)
    return _texts(ModelInferResponse(model_name=head.model_name, id=head.id), _only(texts, wanted), told)


def _only(values: Mapping[str, _V], wanted: Collection[str]) -> dict[str, _V]:
    return {name: value for name, value in values.items() if not wanted or name in wanted}


def _texts(response: ModelInferResponse, texts: Mapping[str, str], parameters: Mapping[str, object]) -> bytes:
    for name, text in texts.items():
        response.outputs.add(name=name, datatype="BYTES", shape=[1])
        response.raw_output_contents.append(to_binary(bytes_array([text])))
    for name, parameter in _encoded_parameters(parameters).items():
        response.parameters[name].CopyFrom(parameter)
    return ModelStreamInferResponse(infer_response=response).SerializeToString()


def streamed_error(request_id: str, error: QueryError) -> bytes:
    """Return the encoded response to a failed request of a stream; the stream continues."""
    response = ModelInferResponse(id=request_id, parameters=_encoded_parameters({_FINAL: True, "reason": error.reason}))
    return ModelStreamInferResponse(error_message=str(error), infer_response=response).SerializeToString()


def _pieces(result: Result, more: Mapping[str, object]) -> list[Piece]:
    rest, at = memoryview(result.value), result.json_length or len(result.value)
    try:
        head = _decode(rest[:at])
    except msgspec.MsgspecError as error:
        raise Internal(f"the answer is not a v2 response: {error}") from None
    pieces: list[Piece] = [_head(head, more).SerializeToString()]
    for tensor in head.outputs:
        size = tensor.binary_size
        if size is None:
            raise Internal(f"output {tensor.name} is not in binary form")
        pieces += field(_RAW_OUTPUTS, [rest[at : at + size]])
        at += size
    return pieces


def _head(head: ResponseHead, more: Mapping[str, object]) -> ModelInferResponse:
    outputs = [
        ModelInferResponse.InferOutputTensor(name=one.name, datatype=one.datatype, shape=one.shape)
        for one in head.outputs
    ]
    return ModelInferResponse(
        model_name=head.model_name,
        model_version=head.model_version or "",
        id=head.id,
        parameters=_encoded_parameters({**head.parameters, **more}),
        outputs=outputs,
    )


def _encoded_parameters(values: Mapping[str, Any]) -> dict[str, InferParameter]:
    return {name: _encoded_parameter(value) for name, value in values.items() if value is not None}


def _encoded_parameter(value: object) -> InferParameter:
    """Return a value as a parameter of the protocol; lists and tables become JSON texts."""
    match value:
        case bool():
            return InferParameter(bool_param=value)
        case int() if -_MAX_INT64 <= value <= _MAX_INT64:
            return InferParameter(int64_param=value)
        case float():
            return InferParameter(double_param=value)
        case str():
            return InferParameter(string_param=value)
        case _:
            return InferParameter(string_param=orjson.dumps(value).decode())

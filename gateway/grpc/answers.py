"""Encodes the result of a query as a `ModelInferResponse`; outputs are raw contents and are copied once.

A worker answers in JSON with binary tensors, as `requests.py` demands. Its tensors stay as they are, and its JSON
becomes the fields of the message.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.grpc.inference_pb2 import InferParameter, ModelInferResponse, ModelStreamInferResponse
from gateway.grpc.wire import Piece, field, joined
from schemas.errors import Internal, QueryError
from schemas.oip import ResponseHead
from schemas.result import Result

_RAW: Final = ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_STREAMED: Final = ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_FINAL: Final = "triton_final_response"
"""Parameter of a streamed response that marks the last response to a request for Triton's clients."""
_decode: Final = msgspec.json.Decoder(ResponseHead).decode
_MAX_INT64: Final = 2**63 - 1


def infer_response(result: Result) -> bytes:
    """Return the encoded response to a call.

    Raises:
        Internal: the result is no v2 response, or not in binary form.
    """
    return joined(_pieces(result, {}))


def streamed_response(result: Result) -> bytes:
    """Return the encoded response to a request of a stream; raises as `infer_response`."""
    return joined(field(_STREAMED, _pieces(result, {_FINAL: True})))


def streamed_error(request_id: str, error: QueryError) -> bytes:
    """Return the encoded response to a failed request of a stream; the stream continues."""
    response = ModelInferResponse(id=request_id, parameters=_parameters({_FINAL: True, "reason": error.reason}))
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
        pieces += field(_RAW, [rest[at : at + size]])
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
        parameters=_parameters({**head.parameters, **more}),
        outputs=outputs,
    )


def _parameters(values: Mapping[str, Any]) -> dict[str, InferParameter]:
    return {name: _parameter(value) for name, value in values.items() if value is not None}


def _parameter(value: object) -> InferParameter:
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

"""Requests and responses of the Open Inference Protocol v2, in JSON and with the binary tensor extension.

A message is JSON, or JSON followed by the binary tensors that its `binary_data_size` parameters announce, in that
order. The header `inference-header-content-length` then gives the length of the JSON. Length 0 in a request means that
the value has no JSON and is the raw data of the only input.

* A value whose content type is text or an image is itself the only BYTES input (`is_plain`); the answer is JSON.
* A gateway uses `read_head`, which validates everything except the tensors' elements and builds no tensors.
* A worker uses `decode_request`. Any bytes give a request or an `InvalidRequest` that names the JSON path.
* Encoders pad the JSON with spaces to align the tensors that follow, so that numpy can use views of them.
* Unknown fields are ignored, as the protocol requires. Unknown parameters are kept for later components.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import orjson

from schemas.errors import Internal, InvalidRequest
from schemas.query_names import BINARY_OUTPUT, Parameter, check_reserved
from schemas.signature import BINARY, JSON, TensorSpec
from schemas.tensors import (
    BYTES,
    MAX_RANK,
    Array,
    datatype_of,
    dtype_of,
    fixed_size,
    from_binary,
    from_json,
    to_binary,
    to_json,
)

Dimension = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
ALIGNMENT: Final = 16
MAX_CLASSES: Final = 1000
"""Highest number of classes that a client may request of each row."""


class TensorParameters(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Parameters of a tensor that the binary extension defines."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0, le=2**40)] | None = None
    shared_memory_region: str | None = None


class TensorHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Input of a request or output of a response."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    shape: Annotated[list[Dimension], msgspec.Meta(max_length=MAX_RANK)]
    datatype: str
    parameters: TensorParameters | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)  # a default value has no JSON Schema

    @property
    def binary_size(self) -> int | None:
        """Bytes of its binary data; None: its data is in the JSON."""
        return None if self.parameters is None else self.parameters.binary_data_size


class OutputParameters(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Requested form of one output."""

    binary_data: bool | None = None
    classification: Annotated[int, msgspec.Meta(ge=0, le=MAX_CLASSES)] | None = None
    shared_memory_region: str | None = None


class OutputHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Output that the client requests by name."""

    name: str
    parameters: OutputParameters | None = None


class RequestHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Inference request of the Open Inference Protocol v2."""

    inputs: Annotated[list[TensorHead], msgspec.Meta(min_length=1)]
    id: str = ""
    parameters: dict[str, Parameter] = {}
    outputs: list[OutputHead] = []

    @property
    def batch(self) -> int:
        """Number of inputs in the request: the first dimension of the first tensor that is no scalar."""
        return next((tensor.shape[0] for tensor in self.inputs if tensor.shape), 1)


class ResponseHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Inference response of the Open Inference Protocol v2."""

    model_name: str
    outputs: list[TensorHead]
    model_version: str | None = None
    id: str = ""
    parameters: dict[str, Any] = {}


class WantedOutput(NamedTuple):
    """Requested output and its form."""

    name: str
    binary: bool | None = None
    """True: binary form; None: the default of the request."""
    classes: int = 0
    """Number of best classes to return instead of the scores; 0: return the scores."""


class InferRequest(NamedTuple):
    """Request with its tensors."""

    id: str
    parameters: dict[str, Parameter]
    inputs: dict[str, Array]
    outputs: tuple[WantedOutput, ...]
    """Requested outputs; empty: all outputs of the model."""
    binary_output: bool
    """True if outputs are binary unless the request specifies otherwise."""


class InferResponse(NamedTuple):
    """Response with its tensors."""

    model_name: str
    model_version: str | None
    id: str
    parameters: dict[str, Any]
    outputs: dict[str, Array]


class EncodedMessage(NamedTuple):
    """Value of a record or HTTP body, with the two headers that describe it."""

    value: bytes
    json_length: int | None
    content_type: str


_request: Final = msgspec.json.Decoder(RequestHead)
_response: Final = msgspec.json.Decoder(ResponseHead)


# -- reading -----------------------------------------------------------------------------------------------------------
def read_head(
    value: bytes, json_length: int | None = None, signature: Sequence[TensorSpec] = (), *, plain: bool = False
) -> RequestHead:
    """Validate a request and return it without decoding its tensors.

    Args:
        value: the request's bytes.
        json_length: number of bytes of JSON; None: all of them; 0: the value is the raw data of the only input.
        signature: the model's inputs; needed only if `json_length` is 0 or `plain` is true.
        plain: the result of `is_plain`, if `json_length` is None.

    Raises:
        InvalidRequest: the value is not a request, or its shapes and sizes are inconsistent.
    """
    if json_length == 0 or plain:
        return _raw_head(value, signature, binary_output=not plain)
    head = _decode_json(_request, value, json_length)
    _check_tensors(head.inputs, "inputs", len(value) - (len(value) if json_length is None else json_length))
    if head.outputs:
        _check_wanted(head.outputs)
    if head.parameters:
        check_reserved(head.parameters)
    return head


def decode_request(
    value: bytes | None, json_length: int | None = None, signature: Sequence[TensorSpec] = (), *, plain: bool = False
) -> InferRequest:
    """Decode a request with its tensors; arguments and errors are those of `read_head`."""
    value = value or b""
    head = read_head(value, json_length, signature, plain=plain)
    if (json_length == 0 or plain) and head.inputs[0].datatype == "BYTES":
        inputs = {head.inputs[0].name: np.array([value], BYTES).reshape(head.inputs[0].shape)}
    else:
        inputs = dict(_tensors(head.inputs, "inputs", value, json_length))
    binary = head.parameters.get(BINARY_OUTPUT) is True
    return InferRequest(head.id, head.parameters, inputs, tuple(map(_wanted, head.outputs)), binary)


def decode_response(value: bytes, json_length: int | None = None) -> InferResponse:
    """Decode a response with its tensors.

    Raises:
        Internal: the value is not a response.
    """
    try:
        head = _decode_json(_response, value, json_length)
        _check_tensors(head.outputs, "outputs", len(value) - (len(value) if json_length is None else json_length))
        outputs = dict(_tensors(head.outputs, "outputs", value, json_length))
    except InvalidRequest as error:
        raise Internal(f"the answer is not a v2 response: {error}") from None
    return InferResponse(head.model_name, head.model_version, head.id, head.parameters, outputs)


_Head = TypeVar("_Head")


def _decode_json(decoder: msgspec.json.Decoder[_Head], value: bytes, json_length: int | None) -> _Head:
    if json_length is not None:
        if not 0 <= json_length <= len(value):
            raise InvalidRequest(
                f"the JSON has a declared length of {json_length} bytes, but the body has {len(value)}"
            )
        value = value[:json_length]
    try:
        return decoder.decode(value)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}" if value else "the body is empty") from None


def _check_tensors(tensors: Sequence[TensorHead], key: str, binary: int) -> None:
    """Check names, datatypes and sizes; `binary` is the number of bytes after the JSON."""
    announced, names = 0, set[str]()
    for index, tensor in enumerate(tensors):
        where = f"$.{key}[{index}]"
        dtype_of(tensor.datatype, f"{where}.datatype")
        size = tensor.binary_size
        if size is None:
            if not tensor.data:
                raise InvalidRequest(f"{where}: has neither `data` nor `parameters.binary_data_size`{_hint(tensor)}")
        else:
            wanted = fixed_size(tensor.datatype, tensor.shape)
            if wanted is not None and wanted != size:
                kind = f"{tensor.datatype} of shape {tensor.shape}"
                raise InvalidRequest(f"{where}: {kind} takes {wanted} bytes as binary data, not {size}")
            announced += size
        names.add(tensor.name)
    if announced != binary:
        raise InvalidRequest(f"$.{key}: announce {announced} bytes of binary data, but {binary} follow the JSON")
    if len(names) != len(tensors):
        raise InvalidRequest(f"$.{key}: a name occurs twice")


def _hint(tensor: TensorHead) -> str:
    shared = tensor.parameters is not None and tensor.parameters.shared_memory_region is not None
    return "; shared memory is not supported" if shared else ""


def _check_wanted(outputs: Sequence[OutputHead]) -> None:
    for index, output in enumerate(outputs):
        if output.parameters is not None and output.parameters.shared_memory_region is not None:
            raise InvalidRequest(f"$.outputs[{index}].parameters: shared memory is not supported")
    if len({output.name for output in outputs}) != len(outputs):
        raise InvalidRequest("$.outputs: a name occurs twice")


def _wanted(output: OutputHead) -> WantedOutput:
    form = output.parameters
    return (
        WantedOutput(output.name)
        if form is None
        else WantedOutput(output.name, form.binary_data, form.classification or 0)
    )


def _tensors(
    tensors: Sequence[TensorHead], key: str, value: bytes, json_length: int | None
) -> Iterator[tuple[str, Array]]:
    rest, offset = memoryview(value), json_length or 0
    for index, tensor in enumerate(tensors):
        where = f"$.{key}[{index}].data"
        size = tensor.binary_size
        if size is None:
            yield tensor.name, from_json(tensor.datatype, tensor.shape, tensor.data, where)
        else:
            yield tensor.name, from_binary(tensor.datatype, tensor.shape, rest[offset : offset + size], where)
            offset += size


def _raw_head(value: bytes, signature: Sequence[TensorSpec], *, binary_output: bool) -> RequestHead:
    if len(signature) != 1:
        raise InvalidRequest(f"raw data without JSON needs a model of exactly one input; this one has {len(signature)}")
    spec = signature[0]
    head = TensorHead(spec.name, _raw_shape(spec, len(value)), spec.datatype, TensorParameters(len(value)))
    return RequestHead([head], parameters={BINARY_OUTPUT: binary_output})


def _raw_shape(spec: TensorSpec, size: int) -> list[int]:
    """Return the shape of `size` raw bytes: the last variable dimension follows from the size, the others are 1."""
    free = [axis for axis, length in enumerate(spec.shape) if length < 0]
    shape = [1 if length < 0 else length for length in spec.shape]
    item = fixed_size(spec.datatype, shape)
    if item is None:  # BYTES: the value is the only element
        fits = all(length == 1 for length in shape)
    elif free and item:
        shape[free[-1]], rest = divmod(size, item)
        fits = rest == 0
    else:
        fits = size == item
    if not fits:
        raise InvalidRequest(f"{size} raw bytes do not fit {spec.datatype} of shape {list(spec.shape)} ({spec.name})")
    return shape


# -- writing -----------------------------------------------------------------------------------------------------------
def encode_request(
    inputs: Mapping[str, Array],
    *,
    request_id: str = "",
    parameters: Mapping[str, Parameter] | None = None,
    outputs: Sequence[str] = (),
    binary: bool = True,
) -> EncodedMessage:
    """Encode a request; `binary` applies to its tensors and to those of the answer.

    Raises:
        InvalidRequest: a tensor has no JSON form, or a parameter is an integer of more than 64 bits.
        TypeError: a tensor has no datatype in the protocol.
    """
    asked = dict(parameters or {})
    for name, value in asked.items():
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise InvalidRequest(f"$.parameters.{name[:80]}: the integer has more than 64 bits")
    if binary:
        asked[BINARY_OUTPUT] = True
    head: dict[str, object] = {"id": request_id} if request_id else {}
    if asked:
        head["parameters"] = asked
    if outputs:
        head["outputs"] = [{"name": name} for name in outputs]
    return _encode(head, "inputs", [(name, array, binary) for name, array in inputs.items()])


def encode_response(
    model_name: str,
    request_id: str,
    outputs: Mapping[str, Array],
    parameters: Mapping[str, object] | None = None,
    *,
    wanted: Sequence[WantedOutput] = (),
    binary: bool = False,
    model_version: str | None = None,
) -> EncodedMessage:
    """Encode a response with the `wanted` outputs (all if empty), each in the requested form.

    Raises:
        InvalidRequest: a wanted output does not exist, or has no JSON form.
        TypeError: a tensor has no datatype in the protocol.
    """
    head: dict[str, object] = {"model_name": model_name}
    if model_version is not None:
        head["model_version"] = model_version
    if request_id:
        head["id"] = request_id
    if parameters:
        head["parameters"] = parameters
    tensors: list[tuple[str, Array, bool]] = []
    for index, (name, form, _classes) in enumerate(wanted or map(WantedOutput, outputs)):
        if name not in outputs:
            raise InvalidRequest(f"$.outputs[{index}].name: no output {name[:80]!r}; there are {', '.join(outputs)}")
        tensors.append((name, outputs[name], binary if form is None else form))
    return _encode(head, "outputs", tensors)


def _encode(head: dict[str, object], key: str, tensors: Sequence[tuple[str, Array, bool]]) -> EncodedMessage:
    heads: list[dict[str, object]] = []
    blobs: list[bytes] = []
    for index, (name, array, binary) in enumerate(tensors):
        described: dict[str, object] = {"name": name, "shape": array.shape, "datatype": datatype_of(array)}
        if binary:
            blobs.append(to_binary(array))
            described["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            described["data"] = to_json(array, f"$.{key}[{index}].data")
        heads.append(described)
    head[key] = heads
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return EncodedMessage(text, None, JSON)
    text += b" " * (-len(text) % ALIGNMENT)
    return EncodedMessage(b"".join((text, *blobs)), len(text), BINARY)

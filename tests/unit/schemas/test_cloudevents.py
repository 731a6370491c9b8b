"""Tests of unwrapping CloudEvents that the official library has written for Kafka."""

import json

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import unwrap
from schemas.errors import InvalidRequest

QUERY = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}]}


def event(data: object = QUERY, **attributes: object) -> CloudEvent:
    return CloudEvent(
        attributes={
            "id": "a-1",
            "source": "/tests",
            "type": "org.kubeflow.serving.inference.request",
            "datacontenttype": "application/json",
            "latencyms": "25.5",
            "tenant": "acme",
            "allowlate": "true",
            "replyto": "answers",
            "traceparent": "00-aa-bb-01",
        }
        | attributes,
        data=data,  # pyright: ignore[reportArgumentType] # any JSON value, though the library only names some
    )


def fields(message: kafka.KafkaMessage) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers.items()}


HEADERS = {
    "infaas-id": "a-1",
    "infaas-latency-ms": "25.5",
    "infaas-tenant": "acme",
    "infaas-allow-late": "true",
    "infaas-reply-to": "answers",
    "traceparent": "00-aa-bb-01",
}


@pytest.mark.parametrize("structured", [False, True])
def test_unwrap_reads_both_modes(structured: bool) -> None:
    message = kafka.to_structured_event(event()) if structured else kafka.to_binary_event(event())
    unwrapped = unwrap(fields(message), message.value)
    assert unwrapped is not None
    assert unwrapped[0] == HEADERS | {"content-type": "application/json"}
    assert json.loads(unwrapped[1]) == QUERY
    assert structured or unwrapped[1] is message.value


def test_unwrap_keeps_bytes_of_structured_data() -> None:
    text = b'{ "inputs" :  [1.50, 2e0] }'
    value = b'{"specversion":"1.0","id":"a","source":"/","type":"t","allowlate":true,"batch":2,"data":' + text + b"}"
    unwrapped = unwrap({"content-type": "application/cloudevents+json; charset=UTF-8"}, value)
    assert unwrapped == (
        {"content-type": "application/json", "infaas-id": "a", "infaas-allow-late": "true", "infaas-batch": "2"},
        text,
    )


def test_unwrap_decodes_structured_binary_data() -> None:
    message = kafka.to_structured_event(
        event(b"\x00\xff tensors", datacontenttype="application/octet-stream", inferenceheadercontentlength="0")
    )
    unwrapped = unwrap(fields(message), message.value)
    assert unwrapped is not None
    assert unwrapped[1] == b"\x00\xff tensors"
    assert unwrapped[0]["inference-header-content-length"] == "0"


def test_unwrap_prefers_own_headers() -> None:
    message = kafka.to_binary_event(event())
    unwrapped = unwrap(fields(message) | {"infaas-id": "mine"}, message.value)
    assert unwrapped is not None
    assert unwrapped[0]["infaas-id"] == "mine"


def test_unwrap_ignores_other_records() -> None:
    assert unwrap({"content-type": "application/json", "infaas-id": "1"}, b"{}") is None


@pytest.mark.parametrize(
    ("headers", "value", "message"),
    [
        ({"content-type": "application/cloudevents+avro"}, b"", "avro"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "batch"),
        ({"content-type": "application/cloudevents+json"}, b"[]", "not valid"),
        ({"content-type": "application/cloudevents+json"}, b"{}", "specversion"),
        ({"content-type": "application/cloudevents+json"}, b'{"specversion":"1.0","id":[]}', "not valid"),
        ({"content-type": "application/cloudevents+json"}, b'{"specversion":"1.0","data_base64":"?"}', "data"),
        (
            {"content-type": "application/cloudevents+json"},
            b'{"specversion":"1.0","datacontenttype":"text/plain","data":1}',
            "data",
        ),
        ({"ce_specversion": "0.3"}, b"", "0.3"),
    ],
)
def test_unwrap_refuses_broken_events(headers: dict[str, str], value: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        unwrap(headers, value)


@given(st.binary(max_size=100))
def test_unwrap_refuses_arbitrary_bytes(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        unwrap({"content-type": "application/cloudevents+json"}, value)

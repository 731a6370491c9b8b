"""Tests of forms: urlencoded and multipart bodies, queries and registrations made of their fields."""

import json
import time

import pytest

from admin.api import from_form
from admin.keys import create
from admin.scaling import pin
from gateway.console.asking import prompt_of, query_of, shape_of
from gateway.console.forms import Form, read_form
from gateway.console.registering import model_of
from schemas.errors import InvalidRequest
from schemas.rows.catalog import DecodeImage, Processing, Tokenise, TopClasses
from schemas.rows.cluster import PinKind
from schemas.signature import TensorSpec

PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
NESTED = b"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n"
PNG = b"\x89PNG" + bytes(range(256)) + b"\r\n\r\n--"
IMAGE = (TensorSpec(name="image", datatype="BYTES", shape=(-1,)),)
TENSORS = (
    TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),
    TensorSpec(name="rate", datatype="FP32", shape=(-1,), parameter=True, default=1.0),
)


def test_read_form_returns_fields_files_and_token() -> None:
    assert read_form("application/x-www-form-urlencoded", b"a=1&token=t&a=%C3%A4&b=") == Form(
        [("a", "1"), ("a", "ä"), ("b", "")], {}, "t"
    )
    body = (
        b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nt\r\n'
        b'--x\r\nContent-Disposition: form-data; name="input.image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n"
        + PNG + b'\r\n--x\r\nContent-Disposition: form-data; name="none"; filename=""\r\n\r\n\r\n--x--\r\n'
    )  # fmt: skip
    assert read_form("multipart/form-data; boundary=x", body, files=True) == Form([], {"input.image": PNG}, "t")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"a&" * 2000),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", PART),
        ("multipart/form-data; boundary=x", PART.replace(b"\r\n\r\n", NESTED) + b"--x--\r\n"),
        ("text/plain", b"a=1"),
    ],
)
def test_read_form_refuses_other_bodies(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_form(kind, body, files=True)


def test_read_form_refuses_multipart_where_form_has_no_files() -> None:
    body = PART + b"--x--\r\n"
    assert read_form("multipart/form-data; boundary=x", body, files=True).text("a") == "1"
    with pytest.raises(InvalidRequest):
        read_form("multipart/form-data; boundary=x", body)


@pytest.mark.parametrize("part", [b"--b\n\n", b"--b\r\n\r\n", b"\n", PART.replace(b"--x", b"--b")])
def test_read_form_takes_time_of_a_search_for_any_multipart_body(part: bytes) -> None:
    body = b"--b\r\n" + part * (2**22 // len(part))
    began = time.process_time()
    with pytest.raises(InvalidRequest):
        read_form("multipart/form-data; boundary=b", body, files=True)
    assert time.process_time() - began < 0.5, "a parser of lines takes seconds"


def test_from_form_converts_texts_and_leaves_empty_fields_out() -> None:
    asked = from_form(pin, [("kind", "variant"), ("name", "a.b.cpu"), ("minimum", "2"), ("maximum", "")])
    assert (asked.kind, asked.minimum, asked.maximum) == (PinKind.VARIANT, 2, None)
    key = from_form(create, [("id", "0" * 12), ("tasks", "digits mnist"), ("tenant", "acme")])
    assert key.tasks == ["digits", "mnist"]
    for wrong in ([("kind", "x"), ("name", "n")], [("nothing", "1")], [("kind", "task"), ("name", "a\0")]):
        with pytest.raises(InvalidRequest):
            from_form(pin, wrong)


def test_query_of_sends_image_and_text_plain_and_tensors_as_json() -> None:
    headers, body = query_of(IMAGE, Form([("latency_ms", "20"), ("target", "")], {"input.image": PNG}, ""))
    assert body == PNG
    assert headers == {"content-type": "image/png", "infaas-latency-ms": "20", "infaas-explain": "true"}
    headers, body = query_of(IMAGE, Form([("input.image", "a text")], {}, ""))
    assert (headers["content-type"], body) == ("text/plain", b"a text")
    headers, body = query_of(TENSORS, Form([("input.x", "[[1, 2], [3, 4]]")], {}, ""))
    assert body == b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4]]}]}'
    assert shape_of([[[]]]) == [1, 1, 0]


def test_prompt_of_sends_needs_as_headers_and_options_as_parameters() -> None:
    needs = [("ttft_ms", "500"), ("tpot_ms", "40"), ("max_tokens", "20"), ("max_cost", "")]
    fields = [("input.text_input", "Hi?"), *needs, ("temperature", "0.5"), ("seed", "7")]
    headers, body = prompt_of(Form(fields, {}, ""))
    assert headers == {
        "content-type": "application/json", "infaas-ttft-ms": "500", "infaas-tpot-ms": "40", "infaas-max-tokens": "20",
        "infaas-explain": "true",
    }  # fmt: skip
    sent = json.loads(body)
    assert sent["parameters"] == {"temperature": 0.5, "seed": 7}
    assert sent["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Hi?"]}]
    _, body = prompt_of(Form([*fields, ("chat", "true")], {}, ""))
    assert json.loads(body)["parameters"]["chat"] is True
    assert json.loads(json.loads(body)["inputs"][0]["data"][0]) == [{"role": "user", "content": "Hi?"}]


@pytest.mark.parametrize(
    ("fields", "words"),
    [([], "text_input is empty"), ([("input.text_input", "Hi?"), ("seed", "x")], "seed must be a number")],
)
def test_prompt_of_refuses_missing_and_malformed_values(fields: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        prompt_of(Form(fields, {}, ""))


@pytest.mark.parametrize(
    ("inputs", "form"),
    [
        (IMAGE, Form([], {}, "")),
        (IMAGE, Form([], {"input.image": b"GIF89a"}, "")),
        (TENSORS, Form([("input.x", "1")], {}, "")),
        (TENSORS, Form([("input.x", "[")], {}, "")),
        (TENSORS, Form([("input.x", "[" * 100_000)], {}, "")),
    ],
)
def test_query_of_refuses_missing_and_malformed_inputs(inputs: tuple[TensorSpec, ...], form: Form) -> None:
    with pytest.raises(InvalidRequest):
        query_of(inputs, form)


def a_registration(**more: str) -> Form:
    fields = {"name": "mlp", "task": "digits", "file": f"{'0' * 64} model.onnx"} | more
    return Form(list(fields.items()), {}, "")


def test_model_of_reads_files_and_processing() -> None:
    made = model_of(a_registration(validation=f"{'1' * 64} a b.npz", variants="onnx-fp32 openvino-fp32", hold="true"))
    assert (made.file.upload, made.file.name) == ("0" * 64, "model.onnx")
    assert made.validation is not None
    assert (made.validation.name, made.variants, made.hold) == ("a b.npz", ("onnx-fp32", "openvino-fp32"), True)
    assert made.processing is None
    texts = model_of(a_registration(tokenizer=f"{'2' * 64} t.json", labels=f"{'3' * 64} l.txt")).processing
    assert texts == Processing(before=Tokenise(tokenizer="2" * 64), after=(TopClasses(labels="3" * 64),))
    images = model_of(a_registration(image="28x32", channels="grey")).processing
    assert images == Processing(before=DecodeImage(width=28, height=32, channels="grey"))


@pytest.mark.parametrize("wrong", [{"name": ""}, {"file": ""}, {"image": "28"}, {"image": "0x1"}, {"accuracy": "2"}])
def test_model_of_refuses_missing_and_invalid_fields(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        model_of(a_registration(**wrong))

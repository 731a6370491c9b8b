"""Tests of the translation of HTTP requests: bodies that are texts or images, and untrusted headers."""

import msgspec
import pytest
from multidict import CIMultiDict, MultiDict

from gateway.auth.authenticator import tenant_of_request
from gateway.http.job_requests import JobOptions, read_jobs
from gateway.model_directory import ModelDirectory
from gateway.translation import make_envelope, needs_in
from schemas import headers as h
from schemas.access import ANYONE, Principal, Role
from schemas.catalog import Catalog
from schemas.errors import InvalidRequest
from schemas.signature import TensorSpec
from tests.example_rows import a_task

TEXTS = msgspec.structs.replace(a_task("reviews"), inputs=(TensorSpec(name="text", datatype="BYTES", shape=(-1,)),))
MODELS = ModelDirectory(Catalog(tasks={"reviews": TEXTS, "digits": a_task("digits")})).seen_by(None)


@pytest.mark.parametrize("content_type", ["text/plain", "Text/Plain; charset=utf-8", "image/png"])
def test_make_envelope_sends_text_or_image_unchanged(content_type: str) -> None:
    http = {h.CONTENT_TYPE: content_type, h.LATENCY_MS: "100"}
    envelope = make_envelope(MODELS.find("reviews"), ANYONE, http, b"\x89 a wonderful film", "infaas.replies.r", "q", 1)
    headers = h.as_text(envelope.headers)
    assert (envelope.value, headers[h.BATCH], headers[h.CONTENT_TYPE]) == (b"\x89 a wonderful film", "1", content_type)
    assert h.JSON_LENGTH not in headers


@pytest.mark.parametrize(("task", "content_type"), [("digits", "text/plain"), ("reviews", "application/json")])
def test_make_envelope_reads_other_bodies_as_requests(task: str, content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="the body is not JSON"):
        make_envelope(MODELS.find(task), ANYONE, {h.CONTENT_TYPE: content_type}, b"a film", "infaas.replies.r", "q", 1)


def test_make_envelope_explains_refusal_of_image() -> None:
    with pytest.raises(InvalidRequest, match="digits accepts no image/png: send its inputs in a request"):
        make_envelope(
            MODELS.find("digits"), ANYONE, {h.CONTENT_TYPE: "image/png"}, b"\x89PNG", "infaas.replies.r", "q", 1
        )


@pytest.mark.parametrize(
    ("principal", "signed"), [(ANYONE, False), (Principal("k", "acme", frozenset({Role.QUERY})), True)]
)
async def test_read_jobs_allows_signing_for_authenticated_tenant(principal: Principal, signed: bool) -> None:
    http = {h.CONTENT_TYPE: "text/plain", h.TENANT: "acme", h.SIGNATURE: "v1 forged"}
    options = JobOptions(principal, None, "acme", None, None)
    (job,) = await read_jobs(MODELS.find("reviews"), http, [b"a film"], ["1"], options, 1, many=False)
    assert job.headers[h.TENANT] == "acme"
    assert job.headers.get(h.SIGNATURE) == ("" if signed else None)


def test_repeated_need_is_refused() -> None:
    plain = (h.CONTENT_TYPE, "text/plain")
    fields = CIMultiDict([(h.LATENCY_MS, "100"), (h.LATENCY_MS.upper(), "100"), plain])
    with pytest.raises(InvalidRequest, match="more than once"):
        make_envelope(MODELS.find("reviews"), ANYONE, fields, b"a", "infaas.replies.r", "q", 1)
    with pytest.raises(InvalidRequest, match="more than once"):
        needs_in(MultiDict([("latency_ms", "1"), ("other", "1"), ("latency_ms", "1")]))


@pytest.mark.parametrize(
    ("http", "parameters", "words"),
    [
        ({h.TENANT: "*"}, {}, "header infaas-tenant is not a name"),
        ({}, {"tenant": "*"}, "parameter tenant is not a name"),
    ],
)
def test_make_envelope_refuses_claimed_admin_tenant(
    http: dict[str, str], parameters: dict[str, str], words: str
) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    body = msgspec.json.encode({"inputs": [tensor], "parameters": parameters})
    with pytest.raises(InvalidRequest, match=words):
        make_envelope(MODELS.find("digits"), ANYONE, http, body, "infaas.replies.r", "q", 1)
    assert tenant_of_request(ANYONE, http) is None
    admin = Principal(name="k", tenant=None, roles=frozenset({Role.ADMIN}))
    envelope = make_envelope(MODELS.find("digits"), admin, http, body, "infaas.replies.r", "q", 1)
    assert h.as_text(envelope.headers)[h.TENANT] == "*" == tenant_of_request(admin, http)


def test_make_envelope_refuses_shape_beyond_body_size() -> None:
    body = b'{"inputs":[{"name":"x","shape":[65536,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    with pytest.raises(InvalidRequest, match=r"shape: states 65536 inputs, but 78 bytes hold at most 19"):
        make_envelope(MODELS.find("digits"), ANYONE, {}, body, "infaas.replies.r", "q", 1)


def test_make_envelope_ignores_internal_headers_of_http() -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    http = {h.BATCH: "1000", h.REJECTED_UPSTREAM: "10000", h.REJECTED_UPSTREAM_PROOF: "A" * 44, h.LINGER_NS: "5000000"}
    envelope = make_envelope(MODELS.find("digits"), ANYONE, http, body, "infaas.replies.r", "q", 1)
    sent = h.as_text(envelope.headers)
    assert sent[h.BATCH] == "1"
    assert not sent.keys() & {h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF, h.LINGER_NS}


def test_make_envelope_leaves_parts_of_answers_to_gateway() -> None:
    """A job whose client sends the header would have parts of its answer in the topic of results."""
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    envelope = make_envelope(MODELS.find("digits"), ANYONE, {h.STREAM: "true"}, body, "infaas.replies.r", "q", 1)
    assert h.STREAM not in h.as_text(envelope.headers)

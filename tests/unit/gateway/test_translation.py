"""What the gateway makes of a body that is no request: a text or an image itself."""

import msgspec
import pytest
from multidict import CIMultiDict, MultiDict

from gateway.http.job_requests import JobOptions, read_jobs
from gateway.model_directory import ModelDirectory
from gateway.tenants import tenant_asking
from gateway.translation import make_envelope, needs_in
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.principal import ANYONE, Principal, Role
from schemas.rows.tensor_spec import TensorSpec
from store.catalog import Catalog
from tests.store_rows import a_task

TEXTS = msgspec.structs.replace(a_task("reviews"), inputs=(TensorSpec(name="text", datatype="BYTES", shape=(-1,)),))
MODELS = ModelDirectory(Catalog(tasks={"reviews": TEXTS, "digits": a_task("digits")})).seen_by(None)


@pytest.mark.parametrize("content_type", ["text/plain", "Text/Plain; charset=utf-8", "image/png"])
def test_a_text_or_an_image_is_sent_on_as_it_is(content_type: str) -> None:
    http = {h.CONTENT_TYPE: content_type, h.LATENCY_MS: "100"}
    envelope = make_envelope(MODELS.find("reviews"), ANYONE, http, b"\x89 a wonderful film", "infaas.replies.r", "q", 1)
    headers = h.as_text(envelope.headers)
    assert (envelope.value, headers[h.BATCH], headers[h.CONTENT_TYPE]) == (b"\x89 a wonderful film", "1", content_type)
    assert h.JSON_LENGTH not in headers


@pytest.mark.parametrize(("task", "content_type"), [("digits", "text/plain"), ("reviews", "application/json")])
def test_elsewhere_the_body_is_a_request(task: str, content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="the body is no JSON"):
        make_envelope(MODELS.find(task), ANYONE, {h.CONTENT_TYPE: content_type}, b"a film", "infaas.replies.r", "q", 1)


def test_who_sends_a_file_to_a_model_of_numbers_is_told_what_to_send() -> None:
    with pytest.raises(InvalidRequest, match="digits takes no image/png: send its inputs in a request"):
        make_envelope(
            MODELS.find("digits"), ANYONE, {h.CONTENT_TYPE: "image/png"}, b"\x89PNG", "infaas.replies.r", "q", 1
        )


@pytest.mark.parametrize(
    ("principal", "signed"), [(ANYONE, False), (Principal("k", "acme", frozenset({Role.QUERY})), True)]
)
async def test_a_job_may_be_signed_for_if_its_tenant_has_authenticated(principal: Principal, signed: bool) -> None:
    http = {h.CONTENT_TYPE: "text/plain", h.TENANT: "acme", h.SIGNATURE: "v1 forged"}
    options = JobOptions(principal, None, "acme", None, None)
    (job,) = await read_jobs(MODELS.find("reviews"), http, [b"a film"], ["1"], options, 1, many=False)
    assert job.headers[h.TENANT] == "acme"
    assert job.headers.get(h.SIGNATURE) == ("" if signed else None)


def test_a_need_is_said_once() -> None:
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
def test_nobody_becomes_an_administrator_by_saying_so(
    http: dict[str, str], parameters: dict[str, str], words: str
) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    body = msgspec.json.encode({"inputs": [tensor], "parameters": parameters})
    with pytest.raises(InvalidRequest, match=words):
        make_envelope(MODELS.find("digits"), ANYONE, http, body, "infaas.replies.r", "q", 1)
    assert tenant_asking(ANYONE, http) is None
    admin = Principal(name="k", tenant=None, roles=frozenset({Role.ADMIN}))
    envelope = make_envelope(MODELS.find("digits"), admin, http, body, "infaas.replies.r", "q", 1)
    assert h.as_text(envelope.headers)[h.TENANT] == "*" == tenant_asking(admin, http)


def test_shape_beyond_the_size_of_the_body_is_refused() -> None:
    body = b'{"inputs":[{"name":"x","shape":[65536,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    with pytest.raises(InvalidRequest, match=r"shape: says that there are 65536 inputs, but 78 bytes hold 19 at most"):
        make_envelope(MODELS.find("digits"), ANYONE, {}, body, "infaas.replies.r", "q", 1)


def test_headers_that_count_are_not_taken_from_http() -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    http = {h.BATCH: "1000", h.TURNED_AWAY: "10000", h.TURNED_AWAY_PROOF: "A" * 44, h.LINGER_NS: "5000000"}
    envelope = make_envelope(MODELS.find("digits"), ANYONE, http, body, "infaas.replies.r", "q", 1)
    sent = h.as_text(envelope.headers)
    assert sent[h.BATCH] == "1"
    assert not sent.keys() & {h.TURNED_AWAY, h.TURNED_AWAY_PROOF, h.LINGER_NS}

"""What the gateway makes of a body that is no request: a text or an image itself."""

import msgspec
import pytest

from gateway.model_directory import ModelDirectory
from gateway.translation import make_envelope
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.rows.tensor_spec import TensorSpec
from store.catalog import Catalog
from tests.store_rows import a_task

TEXTS = msgspec.structs.replace(a_task("reviews"), inputs=(TensorSpec(name="text", datatype="BYTES", shape=(-1,)),))
MODELS = ModelDirectory(Catalog(tasks={"reviews": TEXTS, "digits": a_task("digits")})).seen_by(None)


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", "image/png"])
def test_a_text_or_an_image_is_sent_on_as_it_is(content_type: str) -> None:
    http = {h.CONTENT_TYPE: content_type, h.LATENCY_MS: "100"}
    envelope = make_envelope(MODELS.find("reviews"), http, b"\x89 a wonderful film", "infaas.replies.r", "q", 1)
    headers = h.as_text(envelope.headers)
    assert (envelope.value, headers[h.BATCH], headers[h.CONTENT_TYPE]) == (b"\x89 a wonderful film", "1", content_type)
    assert h.JSON_LENGTH not in headers


@pytest.mark.parametrize(("task", "content_type"), [("digits", "text/plain"), ("reviews", "application/json")])
def test_elsewhere_the_body_is_a_request(task: str, content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="the body is no JSON"):
        make_envelope(MODELS.find(task), {h.CONTENT_TYPE: content_type}, b"a film", "infaas.replies.r", "q", 1)

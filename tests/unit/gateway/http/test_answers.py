"""Tests of `HttpAnswer`: the HTTP/1.1 head before an answer's body."""

import pytest

from gateway.http.answers import HttpAnswer


@pytest.mark.parametrize("close", [False, True])
def test_answer_head_describes_the_body(close: bool) -> None:
    head = HttpAnswer(503, {"Content-Type": "application/json", "infaas-id": "grüß"}, b"four").head(close=close)
    status, *fields = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert status == "HTTP/1.1 503 Service Unavailable"
    found = dict(field.split(": ", 1) for field in fields)
    assert found.pop("Date").endswith(" GMT")
    expected = {"Content-Type": "application/json", "infaas-id": "grüß", "Content-Length": "4"}
    assert found == expected | ({"Connection": "close"} if close else {})


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb: c", "a\rb: c", "a\r\n", "\n"])
def test_answer_head_refuses_line_breaks(text: str) -> None:
    for headers in ({"a": text}, {text: "a"}):
        with pytest.raises(ValueError, match="line break"):
            HttpAnswer(200, headers, b"").head(close=False)

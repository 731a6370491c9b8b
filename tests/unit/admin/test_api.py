"""Tests of the endpoints of the admin API and of their conversion from and to HTTP."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest

from admin.api import (
    MOST_BODY_BYTES,
    Count,
    Endpoint,
    RequestContext,
    Timestamp,
    endpoint,
    from_http,
    kinds_of,
    to_http,
)
from admin.endpoints import ENDPOINTS
from schemas.access import Role
from schemas.errors import InvalidRequest
from schemas.rows.cluster import PinKind


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    kind: PinKind
    name: str
    most: Count | None = None
    whole: bool = False
    tags: list[str] = []
    since: Timestamp | None = None
    other: PinKind | None = None
    open: bool | None = None


class Found(msgspec.Struct):
    name: str


def declared(method: Any) -> Endpoint[Wanted, Found]:
    @endpoint("things.find", method, "/v1/things/{kind}/{name}", Role.QUERY)
    async def find(_context: RequestContext, request: Wanted) -> Found:
        """Find a thing.

        The latest first.

        Raises:
            NotFound: there is none.
        """
        return Found(name=request.name)

    return find


def test_endpoint_takes_types_and_summary_from_function() -> None:
    found = declared("GET")
    assert (found.request, found.result, found.summary) == (Wanted, Found, "Find a thing. The latest first.")


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(kind=PinKind.TASK, name="digits"),
        Wanted(kind=PinKind.TASK, name="a/b c?ü", most=3, whole=True, tags=["one"]),
        Wanted(kind=PinKind.VARIANT, name="x", tags=["a&b", "c=d"]),
    ],
)
def test_endpoint_request_round_trips_http(method: str, wanted: Wanted) -> None:
    sent = to_http(declared(method), wanted)
    parts = urlsplit(sent.target)
    *_, kind, name = map(unquote, parts.path.split("/"))
    query = parse_qsl(parts.query, keep_blank_values=True)
    assert from_http(declared(method), {"kind": kind, "name": name}, query, sent.body or b"") == wanted


@pytest.mark.parametrize(
    ("method", "query", "body", "says"),
    [
        ("GET", [("mots", "3")], b"", "there are most, whole, tags"),
        ("GET", [("other", "null")], b"", "other must be one of task, .*, not 'null'"),
        ("GET", [("most", "null")], b"", "most has no value in 'null'"),
        ("GET", [("most", "1"), ("most", "2")], b"", "twice"),
        ("GET", [("most", "-1")], b"", ">= 0"),
        ("GET", [("most", str(10**30))], b"", "most"),
        ("GET", [("tags", "a\0b")], b"", "characters"),
        ("GET", [("tags", "\udc80")], b"", "characters"),
        ("GET", [("since", "0001-01-01T00:00:00+14:00")], b"", "out of range"),
        ("PUT", [("most", "1")], b"{}", "body"),
        ("PUT", [], b"[1]", "object"),
        ("PUT", [], b'{"most": "1"}', "most"),
        ("PUT", [], b'{"name": "other"}', "name"),
        ("PUT", [], b'{"tags": ["\\u0000"]}', "characters"),
        ("PUT", [], b'{"since": "9999-12-31T23:59:59-14:00"}', "out of range"),
        ("PUT", [], b"{" * 100_000, "object"),
        ("PUT", [], b" " * MOST_BODY_BYTES + b"{}", "are allowed"),
        ("PUT", [], b"\xff", "object"),
    ],
)
def test_from_http_refuses_invalid_requests(method: str, query: Any, body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        from_http(declared(method), {"kind": "task", "name": "digits"}, query, body)
    with pytest.raises(InvalidRequest, match=r"kind must be one of task, .*, not 'null'"):
        from_http(declared(method), {"kind": "null", "name": "digits"}, [], b"{}" if method == "PUT" else b"")


@pytest.mark.parametrize("one", [one for one in ENDPOINTS if not one.has_body], ids=lambda one: one.name)
def test_from_http_does_not_treat_null_as_absent(one: Endpoint[Any, Any]) -> None:
    path = dict.fromkeys(one.in_path, "x")
    for name in one.request.__struct_fields__:
        if name in one.in_path:
            continue
        try:
            found = from_http(one, path, [(name, "null")])
        except InvalidRequest:
            continue
        assert getattr(found, name) in ("null", ["null"]), "a text, which is looked for"


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: one.name)
def test_endpoint_is_well_formed(one: Endpoint[Any, Any]) -> None:
    assert [
        other for other in ENDPOINTS if other.name == one.name or (other.method, other.path) == (one.method, one.path)
    ] == [one]
    assert one.path.startswith("/v1/")
    assert re.fullmatch(r"[a-z-]+\.[a-z-]+", one.name)
    fields = {field.name: field for field in msgspec.structs.fields(one.request)}
    assert set(one.in_path) <= fields.keys()
    assert all(fields[name].required for name in one.in_path)
    bounds: Any = msgspec.inspect.type_info(one.request)
    for field in bounds.fields:
        for kind in kinds_of(field.type):
            if isinstance(kind, msgspec.inspect.IntType):
                assert kind.ge is not None, f"{one.name}: {field.name} has no least"
                assert kind.le is not None, f"{one.name}: {field.name} has no most"

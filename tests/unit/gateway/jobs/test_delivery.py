"""Tests of `query_headers`: a jobs service signs only for authenticated tenants."""

import pytest

from gateway.jobs.delivery import query_headers
from process.security.signature import digest_of, is_signed_by, read_signature, system_key
from schemas import headers as h
from schemas.jobs import DueJob

SECRET = b"s" * 32


def due(**said: str) -> DueJob:
    return DueJob(id="a", task="t", offline=True, headers={h.TENANT: "acme", **said}, request=b"{}", left_ms=None)


async def test_query_headers_are_signed_for_authenticated_tenant() -> None:
    fields = h.as_text(await query_headers(due(**{h.SIGNATURE: ""}), SECRET, 5.0))
    signature = read_signature(fields[h.SIGNATURE])
    assert signature is not None
    assert is_signed_by(system_key(SECRET), signature, "t", fields, digest_of(b"{}"))
    assert fields[h.TENANT] == "acme"


@pytest.mark.parametrize(("said", "secret"), [({}, SECRET), ({}, None), ({h.SIGNATURE: ""}, None)])
async def test_query_headers_are_unsigned_for_claimed_tenant(said: dict[str, str], secret: bytes | None) -> None:
    fields = h.as_text(await query_headers(due(**said), secret, 5.0))
    assert h.SIGNATURE not in fields
    assert fields[h.TENANT] == "acme"

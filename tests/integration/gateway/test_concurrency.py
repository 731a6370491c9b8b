"""Tests of the concurrency limit over HTTP, and of the memory that answered errors hold."""

import asyncio
import gc
from collections import Counter
from http import HTTPStatus

import numpy as np
import pytest

from gateway.settings import GatewaySettings
from process.collection import no_collection
from schemas import headers as h
from schemas.errors import QueryError, Unsatisfiable
from schemas.oip import encode_request
from tests.integration.gateway.conftest import Running
from tests.waiting import until

BODY = encode_request({"x": np.ones((1, 4), np.float32)}, binary=False).value
LATENCY_MS = 200
LEAST = 8
"""Queries in flight that the limit always admits."""


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, max_in_flight=1000, grace_s=0.2)


async def status_of(gateway: Running) -> HTTPStatus:
    headers = {h.LATENCY_MS: str(LATENCY_MS)}
    async with gateway.http.post(gateway.infer_url, data=BODY, headers=headers) as response:
        await response.read()
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            assert 0 < int(response.headers[h.RETRY_AFTER_MS]) <= LATENCY_MS
        return HTTPStatus(response.status)


async def statuses_of(gateway: Running, count: int) -> Counter[HTTPStatus]:
    return Counter(await asyncio.gather(*(status_of(gateway) for _ in range(count))))


async def test_concurrency_limit_falls_and_reports_turned_away(gateway: Running) -> None:
    tries = [await status_of(gateway)]
    while tries[-1] != HTTPStatus.OK:  # the first query may miss its deadline
        tries.append(await status_of(gateway))
    gateway.responder.silent = True
    assert HTTPStatus.GATEWAY_TIMEOUT in await statuses_of(gateway, 20)
    statuses = await statuses_of(gateway, 60)
    assert set(statuses) == {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
    assert statuses[HTTPStatus.GATEWAY_TIMEOUT] >= LEAST
    assert await status_of(gateway) != HTTPStatus.SERVICE_UNAVAILABLE
    seen = gateway.responder.seen
    asked = len(tries) + 20 + 60 + 1
    await until(lambda: len(seen) + sum(int(fields.get(h.REJECTED_UPSTREAM, "0")) for fields in seen) == asked)


def errors_alive() -> int:
    """Return the number of query errors alive in this process."""
    return sum(isinstance(each, QueryError | TimeoutError) for each in gc.get_objects())


async def test_answered_errors_leave_no_reference_cycles(gateway: Running) -> None:
    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Unsatisfiable("nothing is as fast")

    gateway.responder.answer = refuse
    with no_collection():
        before = errors_alive()
        assert await statuses_of(gateway, 5) == {HTTPStatus.UNPROCESSABLE_ENTITY: 5}
        gateway.responder.silent = True
        assert await statuses_of(gateway, 5) == {HTTPStatus.GATEWAY_TIMEOUT: 5}
        assert errors_alive() < before + 5, "each of five refused, or of five that timed out, is kept"

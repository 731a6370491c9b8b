"""Tests of `Arrivals`: messages arrive within a time limit, and only a few may be late."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.limits.arrivals import Arrivals
from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest, Overloaded

PROMPT_S = 0.02


def arrivals(timeout_s: float = 10 * PROMPT_S, **settings: Any) -> Arrivals:
    return Arrivals(GatewaySettings(receive_timeout_s=timeout_s, **settings))


async def messages(*found: bytes, after: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    if after is not None:
        await after.wait()
    for one in found:
        yield one


async def test_arrivals_receive_present_message() -> None:
    assert await arrivals().message(messages(b"one", b"two")) == b"one"
    with pytest.raises(InvalidRequest, match="ended without a message"):
        await arrivals().message(messages())


async def test_arrivals_time_out_without_message() -> None:
    with pytest.raises(InvalidRequest, match=r"not arrived within 0.2 s"):
        await arrivals().message(messages(after=asyncio.Event()))
    with pytest.raises(InvalidRequest, match=r"not arrived within 0.02 s"):
        await arrivals().message(messages(after=asyncio.Event()), may_be_late=False)


async def test_arrivals_limit_late_messages() -> None:
    """Only two of three late messages are awaited; present messages are received meanwhile."""
    there = asyncio.Event()
    few = arrivals(600 * PROMPT_S, max_bodies_bytes=2048, max_body_bytes=1024)
    late = [asyncio.ensure_future(few.message(messages(b"late", after=there))) for _ in range(3)]
    while not any(one.done() for one in late):
        assert await few.message(messages(b"prompt")) == b"prompt"
        await asyncio.sleep(0)
    there.set()
    found = await asyncio.gather(*late, return_exceptions=True)
    assert sorted(map(repr, found)) == sorted(
        ["b'late'", "b'late'", repr(Overloaded("too many messages arrive slowly here; try again later"))]
    )
    assert await few.message(messages(b"prompt")) == b"prompt"


async def test_arrivals_refuse_beyond_max_connections() -> None:
    few = arrivals(max_connections=1)
    first = asyncio.ensure_future(few.message(messages(after=asyncio.Event())))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="1 messages are arriving"):
        await few.message(messages(b"second"))
    with pytest.raises(InvalidRequest):
        await first
    assert await few.message(messages(b"third")) == b"third"

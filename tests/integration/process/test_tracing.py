"""Tests of the export of spans to receivers that accept, refuse, or never answer."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from process.tracing.tracer import Tracer, open_tracer
from tests.otlp_receiver import exporting_to, otlp_receiver
from tests.waiting import PATIENCE_S, until


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("infaas_spans_dropped_total", {"reason": reason}) or 0


def a_span(tracer: Tracer | None, name: str) -> None:
    assert tracer is not None
    tracer.begin(name, None, time.monotonic_ns()).end()


async def test_spans_reach_the_receiver_with_their_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    async with otlp_receiver() as receiver:
        for name, value in exporting_to(receiver).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        async with open_tracer("gateway", "one") as tracer:
            a_span(tracer, "first")
            await receiver.wait(lambda spans: len(spans) == 1)
            monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
            async with open_tracer("gateway", "two") as other:
                a_span(other, "second")
        found = await receiver.wait(lambda spans: len(spans) == 2)
    assert [(span.service, span.instance, span.name) for span in found] == [
        ("infaas-gateway", "one", "first"),
        ("mine", "two", "second"),
    ]


async def test_refused_spans_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dropped("not accepted")
    async with otlp_receiver() as receiver:
        receiver.status = 400
        for name, value in exporting_to(receiver).items():
            monkeypatch.setenv(name, value)
        async with open_tracer("gateway", "one") as tracer:
            a_span(tracer, "first")
            await until(lambda: dropped("not accepted") == before + 1)


async def test_receiver_that_never_answers_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    called, hang_up, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await hang_up.wait()
        writer.transport.abort()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE_S):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(PATIENCE_S))
        async with open_tracer("gateway", "one") as tracer:
            a_span(tracer, "first")
            await called.wait()
        assert not ended.is_set(), "the end did not wait for the receiver's timeout"
        hang_up.set()
        await ended.wait()

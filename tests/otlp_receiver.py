"""A receiver of OTLP over HTTP, as a tracing backend has one: it decodes the protobuf messages of the standard."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from schemas.topics import NAMESPACE, PREFIX
from tests.doc_commands import block, changed, start_of
from tests.served_apps import served
from tests.waiting import PATIENCE_S


class ReceivedSpan(NamedTuple):
    """A span as it arrived; ids in hexadecimal, times in ns since the epoch."""

    service: str
    instance: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool


class OtlpReceiver:
    """Keeps the spans that arrive; `status` is its answer."""

    def __init__(self, namespace: str) -> None:
        """Show the names of topics in a namespace as if it were the default one."""
        self._namespace = namespace
        self.url = ""
        self.status = 200
        self.schemas = set[str]()
        self.spans: list[ReceivedSpan] = []
        self._news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Answer one export."""
        if self.status != 200:
            return web.Response(status=self.status)
        self._keep(ExportTraceServiceRequest.FromString(await request.read()))
        self._news.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def wait(self, enough: Callable[[list[ReceivedSpan]], bool]) -> list[ReceivedSpan]:
        """Return all spans once they are enough."""
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.spans):
                self._news.clear()
                await self._news.wait()
        return self.spans

    async def trace(self, trace: str, count: int) -> list[ReceivedSpan]:
        """Return the spans of a trace once there are `count`."""
        found = await self.wait(lambda spans: sum(span.trace == trace for span in spans) >= count)
        return [span for span in found if span.trace == trace]

    def _keep(self, message: Any) -> None:
        for group in message.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self.schemas.add(scope.schema_url)
                self.spans += [
                    ReceivedSpan(
                        resource["service.name"],
                        resource["service.instance.id"],
                        span.name.replace(f"{self._namespace}.", PREFIX),
                        span.kind,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        _values(span.attributes),
                        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                        span.status.code == 2,
                    )
                    for span in scope.spans
                ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@asynccontextmanager
async def otlp_receiver(namespace: str = NAMESPACE) -> AsyncGenerator[OtlpReceiver]:
    """Run a receiver on a free port."""
    receiver = OtlpReceiver(namespace)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes([web.post("/v1/traces", receiver.take)])
    async with served(app) as receiver.url:
        yield receiver


def exporting_to(receiver: OtlpReceiver) -> dict[str, str]:
    """Return the variables of processes that send all of their sampled spans to a receiver, soon.

    They are those of `docs/tracing.md`.
    """
    documented = start_of(changed(block("docs/tracing.md#0"), {"http://localhost:4318": receiver.url}))
    assert documented.flags == [], "other tests start single services"
    return {
        **documented.variables,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }

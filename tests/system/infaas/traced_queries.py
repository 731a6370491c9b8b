"""Checks of traces of a whole system, as a receiver of OTLP sees them: from a client over three processes and back."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import grpc.aio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from gateway.grpc import inference_pb2 as wire
from schemas.topics import results_topic, task_topic
from tests.doc_commands import block, run_commands
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import query, topic_in
from tests.waiting import PATIENCE_S, read_until

VARIANT: Final = "mlp.onnx-fp32.cpu"
IN_SYSTEM: Final = {
    "queue infaas.tasks.digits": ("selector", "sender"),
    "process infaas.tasks.digits": ("selector", "sender"),
    f"queue infaas.variants.{VARIANT}": ("worker", "process infaas.tasks.digits"),
    f"process infaas.variants.{VARIANT}": ("worker", "process infaas.tasks.digits"),
    f"compute {VARIANT}": ("worker", f"process infaas.variants.{VARIANT}"),
}
"""Service and parent of each span behind the sender of a record."""
BY_GATEWAY: Final = {"infer digits": ("gateway", "client"), "send infaas.tasks.digits": ("gateway", "infer digits")}
DOCUMENTED: Final = "http://127.0.0.1:18100/metrics"
"""Address of a service in `docs/tracing.md`."""
CLOCKS_NS: Final = 2_000_000
"""Error of the estimates of the broker's clock, from which the times in queues are."""


def parent(number: int) -> tuple[str, str]:
    """Return a client's header and the id of its trace; the id of its span is 16 digits `5`."""
    trace = f"{number:032x}"
    return f"00-{trace}-{'5' * 16}-01", trace


def check(spans: list[ReceivedSpan], sender: str, reply: str, wanted: dict[str, tuple[str, str]]) -> None:
    """Check services, parents and times of the spans of one query's trace."""
    wanted = wanted | IN_SYSTEM | {reply: ("worker", f"process infaas.variants.{VARIANT}")}
    by_name = {span.name: span for span in spans}
    assert by_name.keys() == wanted.keys()
    assert len(spans) == len(wanted), "each once"
    ids = {span.name: span.id for span in spans} | {"client": "5" * 16}
    for name, (service, above) in wanted.items():
        span = by_name[name]
        assert span.service == f"infaas-{service}"
        above = sender if above == "sender" else above
        assert span.parent == ids[above], name
        assert span.start_ns <= span.end_ns
        if above in by_name:
            error_ns = CLOCKS_NS if name.startswith("queue") else 0
            assert span.start_ns >= by_name[above].start_ns - error_ns, name
        if name.startswith("compute"):
            assert span.end_ns <= by_name[above].end_ns
    decision, computed = by_name["process infaas.tasks.digits"], by_name[f"compute {VARIANT}"]
    assert decision.attributes["infaas.variant"] == VARIANT
    assert decision.attributes["messaging.system"] == "kafka"
    assert decision.attributes["infaas.predicted_ms"] > 0
    assert decision.end_ns <= computed.start_ns
    (link,) = computed.links
    assert link[0] != computed.trace, "a batch has a trace of its own"


def named(spans: list[ReceivedSpan], name: str) -> str:
    """Return the header that names a span."""
    return next(f"00-{span.trace}-{span.id}-01" for span in spans if span.name == name)


async def by_http(gateway: str, body: bytes, traceparent: str) -> str | None:
    """Send a query; return the `traceparent` of the answer."""
    async with aiohttp.request(
        "POST", f"{gateway}/v2/models/digits/infer", data=body, headers={"traceparent": traceparent}
    ) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers.get("traceparent")


async def by_grpc(address: str, traceparent: str) -> str | bytes | None:
    """Send a query; return the `traceparent` of the answer."""
    tensor = json.loads(query())["inputs"][0]
    contents = wire.InferTensorContents(fp32_contents=tensor["data"])
    sent = wire.ModelInferRequest.InferInputTensor(
        name=tensor["name"], datatype="FP32", shape=tensor["shape"], contents=contents
    )
    request = wire.ModelInferRequest(model_name="digits", inputs=[sent])
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=wire.ModelInferRequest.SerializeToString,
            response_deserializer=wire.ModelInferResponse.FromString,
        )
        call = method(request, metadata=[("traceparent", traceparent)], timeout=PATIENCE_S)
        await call
        return dict(await call.trailing_metadata() or ()).get("traceparent")


async def by_kafka(kafka: str, namespace: str, traceparent: str, trace: str) -> str:
    """Write a query as a client of Kafka does; return the `traceparent` of its result."""
    topic, results = (topic_in(namespace, name) for name in (task_topic("digits"), results_topic("digits")))
    reading = AIOKafkaConsumer(results, bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with reading, AIOKafkaProducer(bootstrap_servers=kafka) as producer, asyncio.timeout(PATIENCE_S):
        headers = [("infaas-id", trace.encode()), ("traceparent", traceparent.encode()), ("tracestate", b"mine=7")]
        await producer.send_and_wait(topic, query(), headers=headers)
        async for record in reading:
            fields = {name: value.decode() for name, value in record.headers}
            if fields["infaas-id"] == trace:
                assert fields["infaas-status"] == "ok", record.value
                assert fields["tracestate"] == "mine=7"
                return fields["traceparent"]
    raise AssertionError("a consumer never ends")


async def batch_of_two(receiver: OtlpReceiver, gateway: str) -> ReceivedSpan:
    """Ask until two sampled queries share a batch; return its span."""

    async def ask() -> list[ReceivedSpan]:
        async with asyncio.TaskGroup() as asking:
            for number in range(20):
                asking.create_task(by_http(gateway, query(), parent(1000 + number)[0]))
        return [span for span in receiver.spans if span.name == f"batch {VARIANT}" and len(span.links) > 1]

    return (await read_until(ask, bool))[0]


async def check_traces(system: Cli, receiver: OtlpReceiver, folder: Path, others: set[str]) -> None:
    """Ask in every way, and check the spans of each query; `others` are traces of earlier queries."""
    namespace, state = system.environment()["INFAAS_KAFKA_NAMESPACE"], await system.state()
    assert await by_http(state["gateway"], query(), "") is None, "it is not sampled"
    reply = "send (temporary)"
    header, trace = parent(1)
    told = await by_http(state["gateway"], query(), header)
    check(spans := await receiver.trace(trace, 8), "send infaas.tasks.digits", reply, BY_GATEWAY)
    assert told == named(spans, "infer digits")
    header, trace = parent(2)
    told = await by_grpc(urlsplit(state["grpc"]).netloc or state["grpc"], header)
    check(spans := await receiver.trace(trace, 8), "send infaas.tasks.digits", reply, BY_GATEWAY)
    assert told == named(spans, "infer digits")
    header, trace = parent(3)
    result = await by_kafka(state["kafka"], namespace, header, trace)
    spans = await receiver.trace(trace, 6)
    check(spans, "client", reply := "send infaas.results.digits", {})
    assert result == named(spans, reply)
    batch = await batch_of_two(receiver, state["gateway"])
    known = await receiver.wait(lambda spans: {(span.trace, span.id) for span in spans} >= set(batch.links))
    linked = {(span.trace, span.id): span.name for span in known}
    assert {linked[link] for link in batch.links} == {f"process infaas.variants.{VARIANT}"}
    assert batch.attributes["messaging.batch.message_count"] >= 2
    assert len({trace for trace, _ in batch.links}) >= 2
    await check_exemplars(state, receiver, folder)
    assert {span.trace for span in receiver.spans if span.name.startswith("infer")} <= {
        *(parent(number)[1] for number in (1, 2, *range(1000, 1020))),
        *others,
    }, "queries without a header are not sampled"
    assert receiver.schemas == {"https://opentelemetry.io/schemas/1.44.0"}


async def check_exemplars(state: dict[str, Any], receiver: OtlpReceiver, folder: Path) -> None:
    """Check that the histograms lead to traces that the receiver gets."""
    shown_by = (
        ("gateway", "infaas_gateway_request_seconds"),
        ("worker", "infaas_worker_queue_seconds"),
        ("worker", "infaas_worker_compute_seconds"),
    )
    for service, metric in shown_by:
        url = next(found["metrics"] for name, found in state["services"].items() if name.startswith(service))
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with aiohttp.request("GET", url, headers=accept) as answer:
            assert answer.content_type == "application/openmetrics-text"
            lines = (await answer.text()).splitlines()
        shown = [
            line.partition("# ")[2] for line in lines if line.startswith(f"{metric}_bucket") and "trace_id" in line
        ]
        assert shown, metric
        await until_exported(receiver, "\n".join(shown))
        found = await run_commands(block("docs/tracing.md#1"), folder, os.environ, {DOCUMENTED: url})
        await until_exported(receiver, found)


async def until_exported(receiver: OtlpReceiver, text: str) -> None:
    """Wait for a span of a trace that the text names: an exemplar may be newer than the last export."""
    await receiver.wait(lambda spans: any(span.trace in text for span in spans))

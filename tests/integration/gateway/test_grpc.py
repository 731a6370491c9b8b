"""Tests of the gateway over gRPC: tritonclient and direct calls, with a responder behind a real Kafka."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from threading import Event
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.utils import InferenceServerException

from broker.kafka.settings import KafkaSettings
from gateway.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from process.sockets import free_port
from schemas import headers as h
from schemas.errors import OperatorError, Overloaded, RefusalReason
from tests.integration.gateway.conftest import NOWHERE, Running, catalog_of
from tests.integration.gateway.responder import VARIANT
from tests.waiting import until

X = np.arange(8, dtype=np.float32).reshape(2, 4)
EOF: Any = vars(grpc.aio)["EOF"]  # the type stubs lack it
SERVICE = "/inference.GRPCInferenceService/"


class Calls(NamedTuple):
    """A gateway, and a channel to its gRPC port."""

    gateway: Running
    address: str
    channel: grpc.aio.Channel

    def request(self, **fields: Any) -> bytes:
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4]}
        wanted: dict[str, Any] = {
            "model_name": self.gateway.task,
            "inputs": [tensor],
            "raw_input_contents": [X.tobytes()],
        } | fields
        return ModelInferRequest(**wanted).SerializeToString()

    async def call(self, method: str, message: bytes = b"", **options: Any) -> bytes:
        return await self.channel.unary_unary(SERVICE + method)(message, **options)

    async def infer(self, message: bytes | None = None, **options: Any) -> ModelInferResponse:
        found = await self.call("ModelInfer", self.request() if message is None else message, **options)
        return ModelInferResponse.FromString(found)

    def stream(self, **options: Any) -> Any:
        return self.channel.stream_stream(SERVICE + "ModelStreamInfer")(**options)


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, grpc_port=free_port(), max_body_bytes=64 * 1024, max_in_flight=4, grace_s=0.2)


@pytest.fixture
async def calls(gateway: Running, gateway_settings: GatewaySettings) -> AsyncGenerator[Calls]:
    address = f"127.0.0.1:{gateway_settings.grpc_port}"
    async with grpc.aio.insecure_channel(address) as channel:
        yield Calls(gateway, address, channel)


# -- tritonclient ------------------------------------------------------------------------------------------------------
def triton_input(array: "np.ndarray[Any, Any]" = X) -> Any:
    tensor = triton.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return f"{caught.value.status()} {caught.value.message()}"


def use_triton(address: str, task: str) -> dict[str, Any]:
    """Call every offered method of the client and return the results; blocks."""
    answers, answered = list[Any](), Event()

    def note(result: Any, error: Any) -> None:
        answers.append(error or result)
        answered.set()

    client: Any
    with triton.InferenceServerClient(address) as client:
        result = client.infer(task, [triton_input()], model_version="1", request_id="mine", client_timeout=20)
        client.async_infer(task, [triton_input()], note)
        assert answered.wait(60)
        client.start_stream(note)
        for number in range(3):
            client.async_stream_infer(task, [triton_input()], request_id=str(number))
        client.async_stream_infer("absent", [triton_input()], request_id="absent")
        client.stop_stream()  # returns after all answers
        client.load_model(task)
        return {
            "values": result.as_numpy("y").tolist(),
            "id": result.get_response().id,
            "outputs": client.infer(task, [triton_input()], outputs=[triton.InferRequestedOutput("y")]).as_numpy("y"),
            "answers": answers,
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": [client.is_model_ready(name) for name in (task, "mlp", "empty", "absent")],
            "server": client.get_server_metadata(as_json=True)["name"],
            "metadata": client.get_model_metadata(task, as_json=True),
            "config": client.get_model_config(VARIANT, as_json=True)["config"],
            "index": {model.name: model.state for model in client.get_model_repository_index().models},
            "statistics": client.get_inference_statistics(task).model_stats[0],
            "all_statistics": [model.name for model in client.get_inference_statistics().model_stats],
            "unload": refused(lambda: client.unload_model(task)),
            "absent": refused(lambda: client.get_model_metadata("absent")),
            "version": refused(lambda: client.infer(task, [triton_input()], model_version="7")),
        }


async def test_tritonclient_calls_succeed(calls: Calls) -> None:
    task = calls.gateway.task
    seen = await asyncio.to_thread(use_triton, calls.address, task)
    assert (seen["values"], seen["id"]) == ([[0, 2], [8, 10]], "mine")
    assert seen["outputs"].tolist() == seen["values"]
    once, *streamed = seen["answers"]
    assert once.as_numpy("y").tolist() == seen["values"]
    failures = [answer for answer in streamed if isinstance(answer, InferenceServerException)]
    results = {one.get_response().id: one.as_numpy("y").tolist() for one in streamed if one not in failures}
    assert results == dict.fromkeys("012", seen["values"])
    assert [str(failure) for failure in failures] == ["no task, architecture or variant is called 'absent'"]
    assert (seen["live"], seen["ready"], seen["model_ready"]) == (True, True, [True, True, False, False])
    assert (seen["server"], seen["metadata"]["name"], seen["config"]["backend"]) == ("infaas", task, "onnx")
    assert seen["config"]["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert seen["index"] == {task: "READY", "mlp": "READY", "empty": "UNAVAILABLE", VARIANT: "READY"}
    assert seen["statistics"].inference_stats.success.count == 6
    assert set(seen["all_statistics"]) == set(seen["index"])
    assert seen["unload"].startswith("StatusCode.INVALID_ARGUMENT")
    assert seen["absent"].startswith("StatusCode.NOT_FOUND no task")
    assert seen["version"].startswith("StatusCode.NOT_FOUND")


NOT_OFFERED: dict[str, Callable[[Any], object]] = {
    "shared memory": lambda client: client.get_system_shared_memory_status(),
    "shared memory register": lambda client: client.register_system_shared_memory("r", "/r", 8),
    "shared memory unregister": lambda client: client.unregister_system_shared_memory(),
    "shared memory of CUDA": lambda client: client.get_cuda_shared_memory_status(),
    "shared memory of CUDA register": lambda client: client.register_cuda_shared_memory("r", b"", 0, 8),
    "shared memory of CUDA unregister": lambda client: client.unregister_cuda_shared_memory(),
    "TraceSetting": lambda client: client.get_trace_settings(),
    "TraceSetting update": lambda client: client.update_trace_settings(settings={"trace_rate": "1"}),
    "LogSettings": lambda client: client.get_log_settings(),
    "LogSettings update": lambda client: client.update_log_settings({"log_info": True}),
}


async def test_grpc_unsupported_methods_say_so(calls: Calls) -> None:
    def ask() -> dict[str, str]:
        with triton.InferenceServerClient(calls.address) as client:
            return {name: refused(partial(call, client)) for name, call in NOT_OFFERED.items()}

    for name, said in (await asyncio.to_thread(ask)).items():
        assert said.startswith("StatusCode.UNIMPLEMENTED"), name
        assert name.split()[0].lower() in said.lower()
        assert "is not offered" in said


async def test_tritonclient_aio_infers_and_streams(calls: Calls) -> None:
    async def requests() -> AsyncGenerator[dict[str, Any]]:
        for number in range(3):
            yield {"model_name": calls.gateway.task, "inputs": [triton_input()], "request_id": str(number)}

    client: Any
    async with triton_aio.InferenceServerClient(calls.address) as client:
        result = await client.infer(calls.gateway.task, [triton_input()])
        assert result.as_numpy("y").tolist() == [[0, 2], [8, 10]]
        found = [(one.get_response().id, error) async for one, error in client.stream_infer(requests())]
        assert sorted(found) == [("0", None), ("1", None), ("2", None)]


async def test_grpc_accepts_typed_contents(calls: Calls) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
    response = await calls.infer(calls.request(inputs=[tensor], raw_input_contents=[]))
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [2, 4]


# -- needs, deadlines, and errors --------------------------------------------------------------------------------------


async def test_grpc_deadline_becomes_latency_if_none_given(calls: Calls) -> None:
    micros, header = {"timeout": {"int64_param": 13_000_000}}, (("infaas-latency-ms", "14000"),)
    await calls.infer(timeout=25)
    await calls.infer()
    await calls.infer(calls.request(parameters=micros), timeout=25)
    await calls.infer(timeout=25, metadata=header)
    left, *named = [seen.get(h.LATENCY_MS) for seen in calls.gateway.responder.seen]
    assert 20_000 <= float(left or 0) <= 25_000  # gRPC rounds the deadline up in transit, so all of it may be left
    assert named == [None, "13000.0", "14000"]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_grpc_error_has_status_and_pushback(calls: Calls) -> None:
    def refuse(_fields: Any, _value: Any) -> Any:
        raise Overloaded(reason=RefusalReason.INSTANCES_BUSY, retry_after_s=1.5)

    calls.gateway.responder.answer = refuse
    error = await failure(calls.infer())
    metadata = {h.STATUS: "overloaded", h.REASON: "instances_busy", h.RETRY_AFTER_MS: "1500"}
    metadata |= {"retry-after": "2", "grpc-retry-pushback-ms": "1500"}
    assert (error.code(), dict(error.trailing_metadata())) == (grpc.StatusCode.UNAVAILABLE, metadata)


async def test_grpc_refuses_invalid_and_oversized_messages(calls: Calls) -> None:
    for method in ("ModelInfer", "ModelMetadata", "RepositoryIndex"):
        assert (await failure(calls.call(method, b"\x0a\x05a"))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await failure(calls.infer(bytes(65 * 1024)))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = await failure(calls.call("Absent"))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "GRPCInferenceService has no method Absent",
    )


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_grpc_accepts_compressed_messages(calls: Calls, compression: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [500, 4]}
    message = calls.request(inputs=[tensor], raw_input_contents=[np.zeros((500, 4), np.float32).tobytes()])
    response = await calls.infer(message, compression=compression)
    assert response.outputs[0].shape == [500, 2]


async def test_grpc_unknown_service_is_unimplemented(calls: Calls) -> None:
    error = await failure(calls.channel.unary_unary("/nobody.Service/Method")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "there is no service nobody.Service")


class TestLargeMessages:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(port=0, grpc_port=free_port(), max_body_bytes=8 * 2**20, max_in_flight=64)

    async def test_grpc_large_messages_pass_beside_small_ones(self, calls: Calls) -> None:
        large = np.arange(100_000, dtype=np.float32).reshape(-1, 4)
        tensor = {"name": "x", "datatype": "FP32", "shape": [len(large), 4]}
        message = calls.request(inputs=[tensor], raw_input_contents=[large.tobytes()])
        for found in await asyncio.gather(
            *(calls.infer(message) for _ in range(8)), *(calls.infer() for _ in range(8))
        ):
            values = np.frombuffer(found.raw_output_contents[0], np.float32)
            assert values.tolist() in ((large[:, :2] * 2).ravel().tolist(), [0, 2, 8, 10])


async def test_grpc_timeout_frees_slot(calls: Calls) -> None:
    gateway = calls.gateway
    gateway.responder.silent = True
    assert (await failure(calls.infer(timeout=0.3))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: _holds(gateway.query_client.in_flight == 0))


async def _holds(condition: bool) -> bool:
    return condition


# -- streams -----------------------------------------------------------------------------------------------------------
async def streamed(stream: Any) -> ModelStreamInferResponse:
    return ModelStreamInferResponse.FromString(await stream.read())


async def test_grpc_stream_answers_out_of_order(calls: Calls) -> None:
    responder, stream = calls.gateway.responder, calls.stream()
    responder.silent = True
    await stream.write(calls.request(id="slow"))
    await responder.wait_seen(1)
    responder.silent = False
    await stream.write(calls.request(id="quick"))
    first = await streamed(stream)
    assert (first.infer_response.id, first.infer_response.parameters["triton_final_response"].bool_param) == (
        "quick",
        True,
    )
    await stream.write(calls.request(id="wrong", raw_input_contents=[b"short"]))
    await stream.write(b"\x0a\x05a")
    failed = {(found.infer_response.id, found.error_message) for found in [await streamed(stream) for _ in range(2)]}
    assert failed == {
        ("wrong", "$.inputs[0]: FP32 of shape [2, 4] takes 32 bytes as binary data, not 5"),
        ("", "the message is no protobuf: it ends within a field"),
    }
    await stream.done_writing()
    await responder.answer_late()
    assert (await streamed(stream)).infer_response.id == "slow"
    assert await stream.read() is EOF


class TestManyInFlight:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(port=0, grpc_port=free_port(), max_in_flight=1000)

    async def test_grpc_stream_bounds_queries_in_flight(self, calls: Calls) -> None:
        responder, stream = calls.gateway.responder, calls.stream()
        responder.silent = True

        async def write() -> None:
            for number in range(300):
                await stream.write(calls.request(id=str(number)))
            await stream.done_writing()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            await responder.wait_seen(256)
            assert calls.gateway.query_client.in_flight == len(responder.seen) == 256
            await responder.answer_late()
            found = [(await streamed(stream)).infer_response.id for _ in range(300)]
        assert sorted(found, key=int) == [str(number) for number in range(300)]

    async def test_grpc_cancelled_stream_frees_slots(self, calls: Calls) -> None:
        calls.gateway.responder.silent = True
        stream = calls.stream()
        for _ in range(10):
            await stream.write(calls.request())
        await calls.gateway.responder.wait_seen(10)
        stream.cancel()
        await until(lambda: _holds(calls.gateway.query_client.in_flight == 0))

    async def test_grpc_client_disconnect_logs_no_error(self, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(20):
            stream = calls.stream()
            for _ in range(20):
                await stream.write(calls.request())
            await streamed(stream)
            stream.cancel()
        await until(lambda: _holds(calls.gateway.query_client.in_flight == 0))
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_grpc_stop_answers_queries_already_read(self, calls: Calls) -> None:
        responder, stream = calls.gateway.responder, calls.stream()
        responder.silent = True
        await stream.write(calls.request(id="held"))
        await responder.wait_seen(1)
        calls.gateway.stop.set()
        await responder.answer_late()
        assert (await streamed(stream)).infer_response.id == "held"
        assert (await failure(stream.read())).code() is grpc.StatusCode.UNAVAILABLE


# -- health and reflection ---------------------------------------------------------------------------------------------
async def test_grpc_health_check_and_watch(calls: Calls) -> None:
    check = calls.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    watch = calls.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    for service in ("", "inference.GRPCInferenceService"):
        assert (await check(health_pb2.HealthCheckRequest(service=service))).status == 1
    absent = health_pb2.HealthCheckRequest(service="absent")
    assert (await failure(check(absent))).code() is grpc.StatusCode.NOT_FOUND
    watched: Any = watch(health_pb2.HealthCheckRequest())
    assert (await watched.read()).status == 1
    unknown: Any = watch(absent)
    assert (await unknown.read()).status == 3
    unknown.cancel()
    calls.gateway.stop.set()
    assert (await watched.read()).status == 2, "not serving while it stops"
    assert await watched.read() is EOF
    assert (await check(health_pb2.HealthCheckRequest())).status == 2


async def test_grpc_reflection_describes_services(calls: Calls) -> None:
    """Follows grpcurl: lists the services, gets the file of each, and looks up the methods."""
    ask = calls.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    stream: Any = ask()
    pool = DescriptorPool()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = [service.name for service in (await stream.read()).list_services_response.service]
    assert names[0] == "grpc.health.v1.Health"
    for name in names:
        await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        for file in (await stream.read()).file_descriptor_response.file_descriptor_proto:
            pool.AddSerializedFile(file)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex"} <= {method.name for method in service.methods}
    await stream.done_writing()


# -- ports -------------------------------------------------------------------------------------------------------------
class TestTwoGateways:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(port=free_port(), grpc_port=free_port(), reuse_port=True)

    async def test_gateways_share_port_with_reuse_port(
        self, calls: Calls, kafka: KafkaSettings, gateway_settings: GatewaySettings
    ) -> None:
        models, stop = ModelDirectory(catalog_of(calls.gateway.task)), asyncio.Event()
        alone = gateway_settings.model_copy(update={"port": 0, "reuse_port": False})
        with pytest.raises(OperatorError, match=f"{alone.grpc_port}; choose another --grpc-port"):
            async with open_gateway(alone, kafka, models, NOWHERE, stop):
                pass
        async with open_gateway(gateway_settings, kafka, models, NOWHERE, stop):
            for number in range(40):  # each connection reaches one of the two
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(calls.address, options) as channel:
                    await channel.unary_unary(SERVICE + "ModelInfer")(calls.request(id=str(number)), timeout=60)
                if len({seen[h.REPLY_TO] for seen in calls.gateway.responder.seen}) == 2:
                    return
        raise AssertionError("one gateway got all connections")

    async def test_gateway_stops_under_load_without_a_failed_call(
        self, calls: Calls, kafka: KafkaSettings, gateway_settings: GatewaySettings
    ) -> None:
        """Clients move to the other gateway: calls that run are answered, and none is refused."""
        seen, stop, callers, each = calls.gateway.responder.seen, asyncio.Event(), 40, 40
        models = ModelDirectory(catalog_of(calls.gateway.task))
        answered: list[str] = []

        async def call(caller: int) -> None:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(calls.address, options) as channel:
                for number in range(each):
                    message = calls.request(id=f"{caller}-{number}")
                    found = await channel.unary_unary(SERVICE + "ModelInfer")(message, timeout=60)
                    answered.append(ModelInferResponse.FromString(found).id)

        async with asyncio.TaskGroup() as tasks:
            async with open_gateway(gateway_settings, kafka, models, NOWHERE, stop):
                for caller in range(callers):
                    tasks.create_task(call(caller))
                await until(lambda: len(answered) >= callers * each // 3)
            assert len(answered) < callers * each, "the gateway has stopped under load"
        expected = sorted(f"{caller}-{number}" for caller in range(callers) for number in range(each))
        assert sorted(answered) == expected
        assert len(seen) == len(expected), "each is computed once"
        assert len({query[h.REPLY_TO] for query in seen}) == 2


class TestIPv6:
    @pytest.fixture(params=["::1", ""])
    def gateway_settings(self, request: pytest.FixtureRequest) -> GatewaySettings:
        return GatewaySettings(host=request.param, port=0, grpc_port=free_port(), allow_anonymous=True)

    async def test_http_and_grpc_listen_on_ipv6(self, gateway: Running, gateway_settings: GatewaySettings) -> None:
        async with gateway.http.get(f"{gateway.url}/v2/health/live") as response:
            assert response.status == 200
        async with grpc.aio.insecure_channel(f"[::1]:{gateway_settings.grpc_port}") as channel:
            await channel.unary_unary(SERVICE + "ServerLive")(b"", timeout=20)

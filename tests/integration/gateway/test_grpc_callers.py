"""Test of access to the gRPC methods: each method by role, and the errors of refused calls."""

import asyncio
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from broker.kafka.settings import KafkaSettings
from gateway.grpc.inference_pb2 import ModelInferRequest, ModelMetadataRequest, ModelStreamInferResponse
from process.sockets import free_port
from schemas.access import Role
from store.api_keys import revoke_keys
from store.pool import Pool
from tests.integration.gateway.test_authentication import guarded, new_key
from tests.waiting import until

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
OPEN = {"ServerLive", "ServerReady"}
PUBLISHERS = {"RepositoryModelLoad", "RepositoryModelUnload"}


def bearer(key: object) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def request(task: str) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
    return ModelInferRequest(model_name=task, id="mine", inputs=[tensor]).SerializeToString()


async def outcome(channel: grpc.aio.Channel, method: Any, content: bytes, key: object = None) -> tuple[str, str, Any]:
    """Return status code, details and trailing metadata of a call's end."""
    path = method if isinstance(method, str) else f"/{SERVICE.full_name}/{method.name}"
    streams = not isinstance(method, str) and method.client_streaming
    options: dict[str, Any] = {"timeout": 60, "metadata": () if key is None else bearer(key)}
    try:
        if streams:
            _ = [one async for one in channel.stream_stream(path)(iter([content]), **options)]
        else:
            await channel.unary_unary(path)(content, **options)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or "", dict(error.trailing_metadata())
    return "OK", "", {}


async def test_grpc_methods_require_role(kafka: KafkaSettings, store_pool: Pool, database: str) -> None:
    port = free_port()
    keys = {role: await new_key(store_pool, role=role) for role in Role}
    elsewhere = await new_key(store_pool, tasks=["other"])
    limited = await new_key(store_pool, per_second=0.01)
    async with (
        guarded(kafka, database, grpc_port=port) as (gateway,),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        told = {
            (method.name, role): (await outcome(channel, method, b"", None if role is None else keys[role]))[0]
            for method in SERVICE.methods
            for role in (None, *Role)
        }
        for (name, role), code in told.items():
            if name in OPEN:
                assert code == "OK", name
            elif role is None:
                assert code == "UNAUTHENTICATED", name
            elif name in PUBLISHERS and role is Role.QUERY:
                assert code == "PERMISSION_DENIED", name
            else:
                assert code not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), name

        infer, task = "/inference.GRPCInferenceService/ModelInfer", gateway.task
        code, words, trailing = await outcome(channel, infer, request(task))
        assert words.startswith("authentication is required")
        assert (trailing["infaas-status"], trailing["www-authenticate"]) == ("unauthenticated", 'Bearer realm="infaas"')
        silent: Any = channel.stream_stream(infer)(timeout=20)
        assert (await silent.code()).name == "UNAUTHENTICATED", "before anything is sent"
        assert (await outcome(channel, infer, request(task), keys[Role.QUERY]))[0] == "OK"
        assert gateway.responder.seen[-1]["infaas-tenant"] == "acme"

        hidden, absent = [await outcome(channel, infer, request(name), elsewhere) for name in (task, "absent")]
        assert (hidden[0], hidden[1].replace(task, "absent"), hidden[2]) == absent
        metadata = "/inference.GRPCInferenceService/ModelMetadata"
        asked = ModelMetadataRequest(name=task).SerializeToString()
        assert (await outcome(channel, metadata, asked, elsewhere))[0] == "NOT_FOUND"

        ends = [await outcome(channel, infer, request(task), limited) for _ in range(3)]
        refused = next(end for end in ends if end[0] == "RESOURCE_EXHAUSTED")
        assert int(refused[2]["infaas-retry-after-ms"]) > 0
        assert "ratelimit" in refused[2]

        stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            metadata=bearer(keys[Role.PUBLISH])
        )
        await stream.write(request(task))
        first = ModelStreamInferResponse.FromString(await stream.read())
        assert not first.error_message
        await revoke_keys(store_pool, [keys[Role.PUBLISH].id])

        async def is_refused() -> bool:
            await stream.write(request(task))
            return "revoked" in ModelStreamInferResponse.FromString(await stream.read()).error_message

        async with asyncio.timeout(60):
            await until(is_refused)

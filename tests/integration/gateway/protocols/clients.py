"""Clients of each protocol with one interface, so that one test states a behaviour of all protocols."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import grpc.aio
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from gateway.grpc import inference_pb2 as wire
from schemas import headers as h
from schemas.oip import encode_request
from tests.integration.gateway.conftest import Running

X = np.arange(8, dtype=np.float32).reshape(2, 4)
Array = npt.NDArray[np.float32]
Value = str | int | float | bool


class Reply(NamedTuple):
    """Answer to a call: a result or an error."""

    status: str
    """`ok`, or the code of the error."""
    headers: Mapping[str, str]
    """Headers or trailing metadata, names in lower case."""
    content: Any = None
    error: str = ""


class Answer(NamedTuple):
    """Content of the result of a query."""

    id: str
    model: str
    values: list[float]


class Query(NamedTuple):
    """A query to a model or task."""

    model: str
    x: Array
    version: str
    id: str
    headers: Mapping[str, str]
    parameters: Mapping[str, Value]


class ProtocolClient(ABC):
    """Client of one gateway, over one connection."""

    def __init__(self, gateway: Running) -> None:
        self.gateway = gateway

    async def infer(
        self,
        model: str | None = None,
        x: Array = X,
        /,
        *,
        version: str = "",
        request_id: str = "",
        headers: Mapping[str, str] | None = None,
        **parameters: Value,
    ) -> Reply:
        """Send a query to a model, by default to the task; the content of the reply is an `Answer`."""
        return await self.send(Query(model or self.gateway.task, x, version, request_id, headers or {}, parameters))

    @abstractmethod
    async def send(self, query: Query) -> Reply: ...

    @abstractmethod
    async def server_ready(self) -> tuple[bool, bool]:
        """Return true if the server is live, and true if it is ready."""

    @abstractmethod
    async def server(self) -> dict[str, Any]: ...

    @abstractmethod
    async def model_ready(self, name: str) -> bool: ...

    @abstractmethod
    async def metadata(self, name: str, version: str = "") -> Reply: ...

    @abstractmethod
    async def config(self, name: str, version: str = "") -> Reply: ...

    @abstractmethod
    async def statistics(self, name: str = "") -> dict[str, dict[str, tuple[int, int]]]:
        """Return counts and durations in ns by model and part."""

    @abstractmethod
    async def index(self, *, ready: bool = False) -> dict[str, str]:
        """Return the states of all models, or of the ready ones, by name."""

    @abstractmethod
    async def load(self, name: str, **parameters: str) -> Reply: ...

    @abstractmethod
    async def unload(self, name: str) -> Reply: ...


class HttpClient(ProtocolClient):
    """Client over HTTP; `chunked` requests are answered by aiohttp's application instead of by `HttpConnection`."""

    def __init__(self, gateway: Running, *, chunked: bool = False) -> None:
        super().__init__(gateway)
        self._chunked = chunked

    async def send(self, query: Query) -> Reply:
        body = encode_request({"x": query.x}, request_id=query.id, parameters=query.parameters, binary=False).value
        data = _pieces(body) if self._chunked else body
        path = f"{_model_path(query.model, query.version)}/infer"
        reply = await self._ask("POST", path, data=data, headers=query.headers)
        if reply.error:
            return reply
        found = reply.content
        return reply._replace(content=Answer(found.get("id", ""), found["model_name"], found["outputs"][0]["data"]))

    async def server_ready(self) -> tuple[bool, bool]:
        live, ready = [await self._ask("GET", f"/v2/health/{path}") for path in ("live", "ready")]
        return live.content["live"], ready.content["ready"]

    async def server(self) -> dict[str, Any]:
        return (await self._ask("GET", "/v2")).content

    async def model_ready(self, name: str) -> bool:
        return (await self._ask("GET", f"/v2/models/{name}/ready")).content.get("ready", False)

    async def metadata(self, name: str, version: str = "") -> Reply:
        return await self._ask("GET", _model_path(name, version))

    async def config(self, name: str, version: str = "") -> Reply:
        return await self._ask("GET", f"{_model_path(name, version)}/config")

    async def statistics(self, name: str = "") -> dict[str, dict[str, tuple[int, int]]]:
        path = f"/v2/models/{name}/stats" if name else "/v2/models/stats"
        found = (await self._ask("GET", path)).content["model_stats"]
        return {
            one["name"]: {part: (pair["count"], pair["ns"]) for part, pair in one["inference_stats"].items()}
            for one in found
        }

    async def index(self, *, ready: bool = False) -> dict[str, str]:
        found = await self._ask("POST", "/v2/repository/index", json={"ready": ready})
        return {one["name"]: one["state"] for one in found.content}

    async def load(self, name: str, **parameters: str) -> Reply:
        return await self._ask("POST", f"/v2/repository/models/{name}/load", json={"parameters": parameters})

    async def unload(self, name: str) -> Reply:
        return await self._ask("POST", f"/v2/repository/models/{name}/unload", json={})

    async def _ask(self, method: str, path: str, **options: Any) -> Reply:
        async with self.gateway.http.request(method, self.gateway.url + path, **options) as response:
            content = await response.json()
            headers = {name.lower(): text for name, text in response.headers.items()}
            assert response.content_type == "application/json"
            error = content.get("error", "") if isinstance(content, dict) else ""
            if error:
                assert content.get("reason") == headers.get(h.REASON)
            return Reply(headers.get(h.STATUS, "ok"), headers, content, error)


class GrpcClient(ProtocolClient):
    """Client over gRPC."""

    def __init__(self, gateway: Running, channel: grpc.aio.Channel) -> None:
        super().__init__(gateway)
        self._channel = channel

    async def send(self, query: Query) -> Reply:
        request = wire.ModelInferRequest(
            model_name=query.model,
            model_version=query.version,
            id=query.id,
            inputs=[{"name": "x", "datatype": "FP32", "shape": query.x.shape}],
            raw_input_contents=[query.x.tobytes()],
            parameters={name: _parameter(value) for name, value in query.parameters.items()},
        )
        reply = await self._call("ModelInfer", request, wire.ModelInferResponse, query.headers)
        if reply.error:
            return reply
        values = np.frombuffer(reply.content.raw_output_contents[0], np.float32).tolist()
        return reply._replace(content=Answer(reply.content.id, reply.content.model_name, values))

    async def server_ready(self) -> tuple[bool, bool]:
        live = await self._call("ServerLive", wire.ServerLiveRequest(), wire.ServerLiveResponse)
        ready = await self._call("ServerReady", wire.ServerReadyRequest(), wire.ServerReadyResponse)
        return live.content.live, ready.content.ready

    async def server(self) -> dict[str, Any]:
        found = (await self._call("ServerMetadata", wire.ServerMetadataRequest(), wire.ServerMetadataResponse)).content
        return {"name": found.name, "version": found.version, "extensions": list(found.extensions)}

    async def model_ready(self, name: str) -> bool:
        reply = await self._call("ModelReady", wire.ModelReadyRequest(name=name), wire.ModelReadyResponse)
        return reply.content.ready

    async def metadata(self, name: str, version: str = "") -> Reply:
        request = wire.ModelMetadataRequest(name=name, version=version)
        reply = await self._call("ModelMetadata", request, wire.ModelMetadataResponse)
        if reply.error:
            return reply
        found = reply.content
        tensors = {
            part: [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in specs]
            for part, specs in (("inputs", found.inputs), ("outputs", found.outputs))
        }
        content = {"name": found.name, "versions": list(found.versions), "platform": found.platform, **tensors}
        return reply._replace(content=content)

    async def config(self, name: str, version: str = "") -> Reply:
        request = wire.ModelConfigRequest(name=name, version=version)
        reply = await self._call("ModelConfig", request, wire.ModelConfigResponse)
        found = reply.content.config
        kinds = type(found).DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
        inputs = [
            {"name": one.name, "data_type": kinds.values_by_number[one.data_type].name, "dims": list(one.dims)}
            for one in found.input
        ]
        return reply._replace(
            content={"platform": found.platform, "max_batch_size": found.max_batch_size, "input": inputs}
        )

    async def statistics(self, name: str = "") -> dict[str, dict[str, tuple[int, int]]]:
        request = wire.ModelStatisticsRequest(name=name)
        found = (await self._call("ModelStatistics", request, wire.ModelStatisticsResponse)).content.model_stats
        return {
            one.name: {
                field.name: (pair.count, pair.ns)
                for field in one.inference_stats.DESCRIPTOR.fields
                if (pair := getattr(one.inference_stats, field.name)) is not None
            }
            for one in found
        }

    async def index(self, *, ready: bool = False) -> dict[str, str]:
        request = wire.RepositoryIndexRequest(ready=ready)
        found = (await self._call("RepositoryIndex", request, wire.RepositoryIndexResponse)).content.models
        return {one.name: one.state for one in found}

    async def load(self, name: str, **parameters: str) -> Reply:
        changes = {key: wire.ModelRepositoryParameter(string_param=text) for key, text in parameters.items()}
        request = wire.RepositoryModelLoadRequest(model_name=name, parameters=changes)
        return await self._call("RepositoryModelLoad", request, wire.RepositoryModelLoadResponse)

    async def unload(self, name: str) -> Reply:
        request = wire.RepositoryModelUnloadRequest(model_name=name)
        return await self._call("RepositoryModelUnload", request, wire.RepositoryModelUnloadResponse)

    async def _call(
        self, method: str, request: Message, kind: type[Message], headers: Mapping[str, str] | None = None
    ) -> Reply:
        path = f"/inference.GRPCInferenceService/{method}"
        call: Any = self._channel.unary_unary(path)(
            request.SerializeToString(), metadata=tuple((headers or {}).items())
        )
        try:
            message = kind.FromString(await call)
        except grpc.aio.AioRpcError as error:
            told = {name: str(text) for name, text in error.trailing_metadata()}
            return Reply(told.get(h.STATUS, error.code().name), told, error=error.details() or "no details")
        except asyncio.CancelledError:
            call.cancel()
            raise
        return Reply("ok", {name: str(text) for name, text in await call.trailing_metadata() or ()}, message)


def _model_path(name: str, version: str) -> str:
    return f"/v2/models/{name}" + (f"/versions/{version}" if version else "")


def _parameter(value: Value) -> wire.InferParameter:
    fields = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    parameter = wire.InferParameter()
    setattr(parameter, fields[type(value)], value)
    return parameter


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body

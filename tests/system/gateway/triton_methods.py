"""Calls every method of tritonclient's two clients: `python triton_methods.py host:port model input.npy`.

Prints JSON: for each of `http` and `http.aio`, by method, `ok`, or the status and message of its exception, or `not
tried` for a method that this program does not know. The model has one FP32 input and one output.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException


class Calls:
    """Arguments of each method."""

    def __init__(self, model: str, array: "np.ndarray[Any, Any]") -> None:
        tensor = triton.InferInput("x", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        self.inputs = [tensor]
        classes = [triton.InferRequestedOutput("y", class_count=1)]
        whole = {"model_name": model, "inputs": self.inputs, "sequence_id": 0, "priority": 0, "timeout": 9_000_000}
        packed = {"request_compression_algorithm": "deflate", "response_compression_algorithm": "gzip"}
        self.arguments: dict[str, dict[str, Any]] = {
            "is_server_live": {},
            "is_server_ready": {},
            "is_model_ready": {"model_name": model, "model_version": "1"},
            "get_server_metadata": {},
            "get_model_metadata": {"model_name": model, "model_version": "1"},
            "get_model_config": {"model_name": model, "model_version": "1"},
            "get_model_repository_index": {},
            "load_model": {"model_name": model},
            "unload_model": {"model_name": model},
            "get_inference_statistics": {"model_name": model, "model_version": "1"},
            "update_trace_settings": {"model_name": model, "settings": {"trace_rate": "1"}},
            "get_trace_settings": {},
            "update_log_settings": {"settings": {"log_verbose_level": 1}},
            "get_log_settings": {},
            "get_system_shared_memory_status": {},
            "register_system_shared_memory": {"name": "r", "key": "/r", "byte_size": 8},
            "unregister_system_shared_memory": {"name": "r"},
            "get_cuda_shared_memory_status": {},
            "register_cuda_shared_memory": {"name": "r", "raw_handle": b"aGFuZGxl", "device_id": 0, "byte_size": 8},
            "unregister_cuda_shared_memory": {},
            "generate_request_body": {"inputs": self.inputs, "outputs": classes},
            "parse_response_body": {"response_body": b'{"outputs": []}'},
            "infer": {**whole, **packed, "outputs": classes},
            "async_infer": whole,
            "register_plugin": {"plugin": BasicAuth("a", "b")},
            "plugin": {},
            "unregister_plugin": {},
            "close": {},
        }

    def methods(self, kind: type) -> list[str]:
        """Return the public methods of a client; the method that closes it comes last."""
        found = [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]
        order = list(self.arguments)
        return sorted(found, key=lambda name: order.index(name) if name in order else -1)


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return call(), "ok"
    except InferenceServerException as error:
        return None, f"{error.status()} {error.message()}"


async def outcome_of(awaited: Any) -> tuple[Any, str]:
    try:
        return await awaited, "ok"
    except InferenceServerException as error:
        return None, f"{error.status()} {error.message()}"


def sync_outcomes(url: str, calls: Calls) -> dict[str, str]:
    client, seen = triton.InferenceServerClient(url), dict[str, str]()
    for name in calls.methods(type(client)):
        if name not in calls.arguments:
            seen[name] = "not tried"
            continue
        found, seen[name] = outcome(lambda name=name: getattr(client, name)(**calls.arguments[name]))
        if name == "async_infer":
            found, seen[name] = outcome(found.get_result)
        if name == "infer" and found is not None:
            seen["classes"] = str(found.as_numpy("y").tolist())
    return seen


async def aio_outcomes(url: str, calls: Calls) -> dict[str, str]:
    client, seen = triton_aio.InferenceServerClient(url), dict[str, str]()
    for name in calls.methods(type(client)):
        if name not in calls.arguments:
            seen[name] = "not tried"
            continue
        found, seen[name] = outcome(lambda name=name: getattr(client, name)(**calls.arguments[name]))
        if inspect.isawaitable(found):
            found, seen[name] = await outcome_of(found)
        if name == "infer" and found is not None:
            seen["classes"] = str(found.as_numpy("y").tolist())
    return seen


def main(url: str, model: str, file: str) -> None:
    calls = Calls(model, np.load(file))
    print(json.dumps({"http": sync_outcomes(url, calls), "http.aio": asyncio.run(aio_outcomes(url, calls))}))


if __name__ == "__main__":
    main(*sys.argv[1:])

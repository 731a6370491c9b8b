"""What tritonclient sees of a gateway: `python triton_client.py host:port model architecture`, JSON on standard output.

A program of its own: tritonclient runs on gevent, which does not belong into a process with asyncio.
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def infer(client: Any, model: str, binary: bool, **options: Any) -> dict[str, Any]:
    tensor = triton.InferInput("x", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    outputs = None if binary else [triton.InferRequestedOutput("y", binary_data=False)]
    result = client.infer(model, [tensor], outputs=outputs, request_id="mine", **options)
    response = result.get_response()
    return {"y": result.as_numpy("y").tolist(), "id": response["id"], "parameters": response["parameters"]}


def error_of(call: Any) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return ""


def look(url: str, model: str, architecture: str) -> dict[str, Any]:
    client = triton.InferenceServerClient(url)
    seen: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, "1"),
        "absent_ready": client.is_model_ready("absent"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata(model),
        "config": client.get_model_config(model),
        "index": client.get_model_repository_index(),
        "json": infer(client, model, binary=False),
        "binary": infer(client, model, binary=True, parameters={"latency_ms": 5000, "min_accuracy": 0.1}),
        "compressed": infer(client, model, binary=True, request_compression_algorithm="gzip"),
        "architecture": infer(client, architecture, binary=True, model_version="1"),
        "error": error_of(lambda: infer(client, "absent", binary=True)),
        "unload": error_of(lambda: client.unload_model(model)),
    }
    client.load_model(model)
    seen["statistics"] = client.get_inference_statistics(model)["model_stats"][0]
    client.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))

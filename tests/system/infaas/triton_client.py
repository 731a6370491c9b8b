"""Prints a gateway's answers as JSON: `python triton_client.py host:port model architecture input.npy`.

The model has one FP32 input and one output. This is a separate program, because tritonclient uses gevent, which must
not run in a process with asyncio.
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


class Asker:
    """Sends one query in several forms."""

    def __init__(self, client: Any, metadata: dict[str, Any], array: "np.ndarray[Any, Any]") -> None:
        self._client = client
        self._input: str = metadata["inputs"][0]["name"]
        self._output: str = metadata["outputs"][0]["name"]
        self._array = array

    def __call__(self, model: str, binary: bool, **options: Any) -> dict[str, Any]:
        tensor = triton.InferInput(self._input, list(self._array.shape), "FP32")
        tensor.set_data_from_numpy(self._array, binary_data=binary)
        outputs = None if binary else [triton.InferRequestedOutput(self._output, binary_data=False)]
        result = self._client.infer(model, [tensor], outputs=outputs, request_id="mine", **options)
        response = result.get_response()
        values = result.as_numpy(self._output).tolist()
        return {"values": values, "id": response["id"], "parameters": response["parameters"]}


def error_of(call: Any) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return ""


def look(url: str, model: str, architecture: str, file: str) -> dict[str, Any]:
    client = triton.InferenceServerClient(url)
    metadata = client.get_model_metadata(model)
    infer = Asker(client, metadata, np.load(file))
    seen: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, "1"),
        "absent_ready": client.is_model_ready("absent"),
        "server": client.get_server_metadata(),
        "metadata": metadata,
        "config": client.get_model_config(model),
        "index": client.get_model_repository_index(),
        "json": infer(model, binary=False),
        "binary": infer(model, binary=True, parameters={"latency_ms": 5000, "min_accuracy": 0.1}),
        "compressed": infer(model, binary=True, request_compression_algorithm="gzip"),
        "architecture": infer(architecture, binary=True, model_version="1"),
        "error": error_of(lambda: infer("absent", binary=True)),
        "unload": error_of(lambda: client.unload_model(model)),
    }
    client.load_model(model)
    seen["statistics"] = client.get_inference_statistics(model)["model_stats"][0]
    client.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))

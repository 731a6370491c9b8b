"""Tests of the vendor APIs that the runtimes call, compared with the vendors' releases.

`TENSORRT` lists names that the oldest and the newest allowed wheel of `tensorrt-cu*-bindings` (10.13.3 and 11.4.0)
share, with the parameters in their docstrings. Torch is inspected directly if it is installed.
"""

import ast
import inspect
from pathlib import Path
from typing import Any, Final

import pytest

from runtimes import tensorrt as ours
from runtimes.torch.program import import_torch
from tests.unit.runtimes.vendor_stand_ins import CudaDriver, tensorrt

TENSORRT: Final[dict[str, dict[str, list[str] | None]]] = {
    "trt": {
        "Logger": ["min_severity"], "Builder": ["logger"], "OnnxParser": ["network", "logger"], "Runtime": ["logger"],
        "NetworkDefinitionCreationFlag": None, "TensorIOMode": None, "nptype": None, "__version__": None,
    },
    "builder": {
        "create_network": ["flags"], "create_builder_config": [], "create_optimization_profile": [],
        "build_serialized_network": ["network", "config"],
    },
    "network": {"num_inputs": None, "get_input": ["index"]},
    "parser": {"parse_from_file": ["model"], "num_errors": None, "get_error": ["index"]},
    "profile": {"set_shape": ["input", "min", "opt", "max"]},
    "config": {"add_optimization_profile": ["profile"]},
    "engine": {
        "num_io_tensors": None, "get_tensor_name": ["index"], "get_tensor_mode": ["name"], "get_tensor_dtype": ["name"],
        "create_execution_context": [],
    },
    "_context": {
        "get_tensor_shape": ["name"], "set_input_shape": ["name", "shape"], "set_tensor_address": ["name", "memory"],
        "execute_async_v3": ["stream_handle"],
    },
}  # fmt: skip
"""Attributes by the object's name in our code, with the parameters of methods; None for other attributes."""


def used() -> dict[str, set[str]]:
    """Return the attributes of each object that our code uses."""
    found: dict[str, set[str]] = {name: set() for name in TENSORRT}
    for node in ast.walk(ast.parse(Path(ours.__file__).read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if owner in found:
                found[owner].add(node.attr)
    return found


def test_tensorrt_runtime_uses_only_listed_attributes() -> None:
    assert {name: attributes for name, attributes in used().items() if attributes} == {
        name: set(attributes) for name, attributes in TENSORRT.items()
    }


def test_tensorrt_stand_in_has_vendor_signatures() -> None:
    module = tensorrt(CudaDriver())
    logger = module.Logger(module.Logger.WARNING)
    builder = module.Builder(logger)
    engine = module.Runtime(logger).deserialize_cuda_engine(b'{"x": [[1], [2], [3]]}')
    objects: dict[str, Any] = {
        "trt": module, "builder": builder, "network": builder.create_network(1 << 1),
        "parser": module.OnnxParser(None, logger), "profile": builder.create_optimization_profile(),
        "config": builder.create_builder_config(), "engine": engine, "_context": engine.create_execution_context(),
    }  # fmt: skip
    for name, attributes in TENSORRT.items():
        for attribute, parameters in attributes.items():
            found = getattr(objects[name], attribute)
            if parameters is not None:
                assert list(inspect.signature(found).parameters) == parameters, (name, attribute)


@pytest.fixture(scope="module")
def torch() -> Any:
    """Import torch before a test begins: its import starts a process, which a unit test may not."""
    return import_torch()


@pytest.mark.needs_torch
def test_torch_has_gpu_apis_that_runtimes_call(torch: Any) -> None:
    inductor = inspect.signature(torch._inductor.aoti_load_package).parameters
    assert {"path", "num_runners"} <= inductor.keys()
    assert {"exported_program", "package_path"} <= inspect.signature(
        torch._inductor.aoti_compile_and_package
    ).parameters.keys()
    assert {"cuda_graph", "stream"} <= inspect.signature(torch.cuda.graph.__init__).parameters.keys()
    assert "stream" in inspect.signature(torch.cuda.stream).parameters
    assert "_extra_files" in inspect.signature(torch.jit.load).parameters
    assert {"ep", "location"} <= inspect.signature(torch.export.passes.move_to_device_pass).parameters.keys()
    for owner, name in ((torch.cuda.CUDAGraph, "replay"), (torch.cuda.Stream, "synchronize"), (torch.Tensor, "copy_")):
        assert callable(getattr(owner, name))
    assert torch.from_numpy(__import__("numpy").zeros(1)).pin_memory.__name__ == "pin_memory"

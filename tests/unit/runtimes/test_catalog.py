from runtimes.catalog import all_runtimes, is_concurrent


def test_is_concurrent_of_each_runtime() -> None:
    assert {runtime.name: is_concurrent(runtime.name) for runtime in all_runtimes()} == {
        "onnx": True,
        "onnx-tensorrt": False,
        "openvino": True,
        "torch-eager": True,
        "torch-compile": False,
        "torch-aot": True,
        "tensorrt": False,
        "torch-neuron": False,
        "torch-neuronx": False,
        "llama.cpp": False,
        "onnx-decoder": False,
        "cascade": True,
        "chain": True,
    }
    assert not is_concurrent("of a newer version")

from runtimes.catalog import all_runtimes, is_concurrent


def test_threads_share_a_session_only_where_its_runtime_says_so() -> None:
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
        "cascade": True,
        "chain": True,
    }
    assert not is_concurrent("of a newer version")

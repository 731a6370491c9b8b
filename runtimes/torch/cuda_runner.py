"""Torch modules on a CUDA device: pinned host memory, a stream of its own, and CUDA graphs for recurring shapes.

Copies from and to pinned memory are asynchronous, and ordered with the computation in one stream; the host waits once,
at the end. A CUDA graph replays all launches of a batch of one shape in one call: for small models launching takes
longer than computing. A module that cannot be captured runs without a graph.

Written from torch's documentation, and tested only against stand-ins and torch's signatures, on a machine without such
a device.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

_RUNS_BEFORE_CAPTURE: Final = 3
"""Runs of a shape before a graph is captured; the first runs choose algorithms, which a capture must not."""
_MOST_GRAPHS: Final = 8
"""Most shapes with a graph at a time; each graph keeps its own inputs and outputs on the device."""
_MOST_COUNTED: Final = 256
"""Most shapes whose runs are counted; the least recent is dropped."""

_Shape = tuple[tuple[int, ...], ...]


class _CapturedShape(NamedTuple):
    graph: Any
    inputs: list[Any]
    """Tensors on the device that the graph reads."""
    outputs: list[Any]
    """Tensors on the device that the graph writes."""


class CudaRunner:
    """Runner of a module on the device that this process uses; threads take turns."""

    def __init__(self, torch: Any, module: Any, positional: int, named: Sequence[str], *, graphs: bool) -> None:
        """`module` takes `positional` positional inputs, then the `named` ones."""
        self._torch = torch
        self._module: Any = module
        self._positional = positional
        self._named = named
        self._graphs = graphs
        self._stream = torch.cuda.Stream()
        self._lock = threading.Lock()
        self._runs: OrderedDict[_Shape, int] = OrderedDict()
        """Number of runs of shapes without a graph, the latest last."""
        self._captured: OrderedDict[_Shape, _CapturedShape] = OrderedDict()

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute one batch; inputs and outputs are in the order of the program."""
        torch = self._torch
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            pinned = [torch.from_numpy(as_writable(array)).pin_memory() for array in arrays]
            shape: _Shape = tuple(array.shape for array in arrays)
            captured = self._captured_for(shape, pinned)
            if captured is None:
                outputs = self._call([tensor.to("cuda", non_blocking=True) for tensor in pinned])
            else:
                for tensor, host in zip(captured.inputs, pinned, strict=True):
                    tensor.copy_(host, non_blocking=True)
                captured.graph.replay()
                outputs = captured.outputs
            results = [self._to_host(output) for output in outputs]
            self._stream.synchronize()
            return [result.numpy() for result in results]

    def close(self) -> None:
        """Free the module, the graphs and the device's memory."""
        with self._lock:
            self._module = None
            self._captured.clear()
            self._torch.cuda.empty_cache()

    def _captured_for(self, shape: _Shape, pinned: Sequence[Any]) -> _CapturedShape | None:
        found = self._captured.get(shape)
        if found is not None:
            self._captured.move_to_end(shape)
            return found
        if not self._graphs or self._count_run(shape) <= _RUNS_BEFORE_CAPTURE:
            return None
        captured = self._capture(pinned)
        if captured is None:
            self._graphs = False
            return None
        self._captured[shape] = captured
        if len(self._captured) > _MOST_GRAPHS:
            self._captured.popitem(last=False)
        return captured

    def _count_run(self, shape: _Shape) -> int:
        runs = self._runs.pop(shape, 0) + 1
        if runs <= _RUNS_BEFORE_CAPTURE:
            self._runs[shape] = runs
        if len(self._runs) > _MOST_COUNTED:
            self._runs.popitem(last=False)
        return runs

    def _capture(self, pinned: Sequence[Any]) -> _CapturedShape | None:
        torch = self._torch
        inputs = [tensor.to("cuda") for tensor in pinned]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = self._call(inputs)
        except RuntimeError:  # it waits for the device, or allocates in a way that a graph must not
            return None
        return _CapturedShape(graph, inputs, outputs)

    def _call(self, tensors: Sequence[Any]) -> list[Any]:
        named = dict(zip(self._named, tensors[self._positional :], strict=True))
        return output_values(self._module(*tensors[: self._positional], **named))

    def _to_host(self, tensor: Any) -> Any:
        host = self._torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)


def output_values(result: Any) -> list[Any]:
    """Return a program's outputs in order, from a mapping, a sequence or a single tensor."""
    if isinstance(result, Mapping):
        return list(result.values())
    return list(result) if isinstance(result, (list, tuple)) else [result]


def as_writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, or a copy if torch would warn that it is not writable; it is only read."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()

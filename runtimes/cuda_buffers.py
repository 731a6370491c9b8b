"""Memory and streams of a CUDA device through the driver's API, for libraries that take raw addresses.

Each tensor has a pinned buffer on the host, for asynchronous copies, and one on the device. Both grow to the largest
size needed and are reused. All operations are ordered in one stream. Tested only against a stand-in of the driver.
"""

import ctypes
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.cuda import DRIVER
from schemas.errors import OperatorError

_NON_BLOCKING: Final = 1
_OUT_OF_MEMORY: Final = 2


class CudaError(Exception):
    """Error of a call of the driver."""


class CudaStream:
    """Stream on the device that this process uses; call `enter` in each thread that uses it."""

    def __init__(self) -> None:
        self._driver: Any = ctypes.CDLL(DRIVER)
        self._device, self._context, stream = ctypes.c_int(0), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(self._device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        with ExitStack() as undo:
            undo.callback(self._release)
            self.enter()
            self.call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
            undo.pop_all()
        self._stream = stream

    @property
    def handle(self) -> int:
        """Address of the stream, for other libraries."""
        return self._stream.value or 0

    def enter(self) -> None:
        """Make the device current in the calling thread."""
        self.call("cuCtxSetCurrent", self._context)

    def synchronize(self) -> None:
        """Wait until all operations in the stream are done."""
        self.call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free the stream, and release the device's context."""
        self.call("cuStreamDestroy_v2", self._stream)
        self._release()

    def _release(self) -> None:
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            MemoryError: the device's memory, or the host's pinnable memory, is exhausted.
            CudaError: any other error, with the driver's number.
        """
        code = getattr(self._driver, function)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise MemoryError(f"{function}: the CUDA device is out of memory")
        if code != 0:
            raise CudaError(f"{function} failed with CUDA error {code}")


class TensorBuffer:
    """Memory of one tensor on the host and on the device."""

    def __init__(self, stream: CudaStream) -> None:
        self._stream = stream
        self._size = 0
        self._host = ctypes.c_void_p()
        self._device = ctypes.c_uint64(0)

    @property
    def address(self) -> int:
        """Address on the device."""
        return self._device.value

    def upload(self, array: NDArray[Any]) -> None:
        """Start to copy an array to the device."""
        self.reserve(array.nbytes)
        np.copyto(self._view(array.shape, array.dtype), array)
        self._stream.call(
            "cuMemcpyHtoDAsync_v2", self._device, self._host, ctypes.c_size_t(array.nbytes), self._handle()
        )

    def download(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Start to copy device memory into the returned array; read it after the stream has been synchronised."""
        array = self._view(shape, dtype)
        self._stream.call(
            "cuMemcpyDtoHAsync_v2", self._host, self._device, ctypes.c_size_t(array.nbytes), self._handle()
        )
        return array

    def reserve(self, size: int) -> None:
        """Ensure room for `size` bytes."""
        if size <= self._size:
            return
        self.close()
        self._stream.call("cuMemAllocHost_v2", ctypes.byref(self._host), ctypes.c_size_t(size))
        self._stream.call("cuMemAlloc_v2", ctypes.byref(self._device), ctypes.c_size_t(size))
        self._size = size

    def close(self) -> None:
        """Free both buffers."""
        if self._host.value:
            self._stream.call("cuMemFreeHost", self._host)
        if self._device.value:
            self._stream.call("cuMemFree_v2", self._device)
        self._host, self._device, self._size = ctypes.c_void_p(), ctypes.c_uint64(0), 0

    def _handle(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._stream.handle)

    def _view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64))
        memory: Any = (ctypes.c_uint8 * max(count * dtype.itemsize, 1)).from_address(self._host.value or 0)
        return np.frombuffer(memory, dtype, count).reshape(shape)


def check_alive(stream: CudaStream | None) -> CudaStream:
    """Return the stream of an open session.

    Raises:
        OperatorError: the session was closed.
    """
    if stream is None:
        raise OperatorError("the session was closed")
    return stream

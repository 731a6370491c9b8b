"""CUDA devices according to the driver, and their memory and streams; no package is needed.

The driver numbers only the devices that the environment leaves visible, so a process with one visible device uses
number 0. NVML numbers all devices of the machine, so it is queried by PCI bus address.

`CudaStream` and `TensorBuffer` serve libraries that take raw addresses. Each tensor has a pinned buffer on the host,
for asynchronous copies, and one on the device. Both grow to the largest size needed and are reused. All operations are
ordered in one stream.

Tested on a machine without such a device: beyond "no device", only against stand-ins of the two libraries.
"""

import ctypes
import os
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import Availability
from schemas.errors import OperatorError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
DRIVER: Final = "libcuda.so.1"
_NVML: Final = "libnvidia-ml.so.1"
_NAME_LENGTH: Final = 100
_BUS_ID_LENGTH: Final = 32


class _Memory(ctypes.Structure):
    """Layout of `nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def availability() -> Availability:
    """Return an availability that is true if a CUDA driver and at least one device are present."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Availability(False, f"no CUDA driver ({DRIVER}) on this machine")
    if driver.cuInit(0) != 0:
        return Availability(False, "the CUDA driver cannot be initialised; see nvidia-smi")
    return Availability(True) if _count(driver) else Availability(False, "the CUDA driver sees no device")


def device_count() -> int:
    """Return the number of devices that this process may use."""
    return _count(ctypes.CDLL(DRIVER)) if availability().available else 0


def use_device(number: int) -> None:
    """Leave only device `number` visible; call before anything in this process initialises the driver."""
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    os.environ[VISIBLE] = visible[number] if number < len(visible) else str(number)


def device_name(index: int = 0) -> str:
    """Return the product name of a device; requires an available device."""
    driver = ctypes.CDLL(DRIVER)
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    driver.cuDeviceGetName(name, _NAME_LENGTH, _device(driver, index))
    return name.value.decode()


def memory_used(index: int = 0) -> int:
    """Return the bytes in use on the device by all processes; requires an available device."""
    return int(_memory(index).used)


def memory_total(index: int = 0) -> int:
    """Return the bytes of the device's memory; requires an available device."""
    return int(_memory(index).total)


def _count(driver: Any) -> int:
    count = ctypes.c_int(0)
    return count.value if driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def _device(driver: Any, index: int) -> ctypes.c_int:
    device = ctypes.c_int(0)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    return device


def _memory(index: int) -> _Memory:
    driver, nvml = ctypes.CDLL(DRIVER), ctypes.CDLL(_NVML)
    bus_id = ctypes.create_string_buffer(_BUS_ID_LENGTH)
    driver.cuDeviceGetPCIBusId(bus_id, _BUS_ID_LENGTH, _device(driver, index))
    handle, memory = ctypes.c_void_p(), _Memory()
    nvml.nvmlInit_v2()
    nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id, ctypes.byref(handle))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return memory


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

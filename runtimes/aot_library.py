"""Library compiled by AOTInductor for the CPU, called without the interpreter's lock.

Torch's own loader holds the lock while a batch computes: meanwhile no other slot of the worker computes, and the event
loop stands still. This module calls the same stable C interface of the library (`aoti_runtime/interface.h` among
torch's headers) by `ctypes`, which releases the lock.
"""

import ctypes
import importlib
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

_FOLDER: Final = "/data/aotinductor/"
_METADATA: Final = "_metadata.json"
_POINTER: Final = ctypes.c_void_p


class AotLibrary:
    """Models of a library in memory: each computes for one thread at a time, and further threads wait."""

    def __init__(self, library: Any, models: int) -> None:
        """Create `models` models; blocks.

        Raises:
            RuntimeError: the library refuses; the reason is on standard error.
        """
        self._library = library
        self._tensors: Any = importlib.import_module("torch._C._aoti")
        self._container = _POINTER()
        create = library.AOTInductorModelContainerCreateWithDevice
        _check(create(ctypes.byref(self._container), ctypes.c_size_t(models), b"cpu", None), "be loaded")
        weakref.finalize(self, library.AOTInductorModelContainerDelete, self._container)
        self._inputs = self._number("Inputs")
        self._outputs = self._number("Outputs")

    @classmethod
    def load(cls, archive: Path, models: int) -> Self | None:
        """Load the library of an archive. Returns None if only torch's loader can run it, e.g. for custom operators."""
        with zipfile.ZipFile(archive) as content, tempfile.TemporaryDirectory(prefix="infaas-aot-") as folder:
            names = [name for name in content.namelist() if _FOLDER in name]
            libraries = [name for name in names if name.endswith(".so")]
            needs = [name for name in names if name.endswith(".json") and not name.endswith(_METADATA)]
            if len(libraries) != 1 or needs:
                return None
            return cls(ctypes.CDLL(content.extract(libraries[0], folder)), models)  # it stays mapped after deletion

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Compute a batch. The tensors must fit the compiled shapes and types: the library does not check them.

        Raises:
            ValueError: the number of tensors is wrong.
            RuntimeError: the computation failed; the reason is on standard error.
        """
        if len(tensors) != self._inputs:
            raise ValueError(f"the compiled program takes {self._inputs} tensors, not {len(tensors)}")
        handles = self._tensors.unsafe_alloc_void_ptrs_from_tensors([*tensors])
        given = (_address(handle, None) for handle in handles)
        inputs, outputs = (_POINTER * self._inputs)(*given), (_POINTER * self._outputs)()
        run = self._library.AOTInductorModelContainerRun
        failed = run(
            self._container, inputs, ctypes.c_size_t(self._inputs), outputs, ctypes.c_size_t(self._outputs), None, None
        )
        _check(failed, "compute")
        computed = [_new_capsule(output, None, None) for output in outputs]
        return self._tensors.alloc_tensors_by_stealing_from_void_ptrs(computed)

    def _number(self, of: str) -> int:
        number = ctypes.c_size_t()
        count = getattr(self._library, f"AOTInductorModelContainerGetNum{of}")
        _check(count(self._container, ctypes.byref(number)), f"count its {of.lower()}")
        return number.value


def _check(failed: int, what: str) -> None:
    if failed:
        raise RuntimeError(f"the compiled program could not {what}; see its standard error")


_address: Final = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
_new_capsule: Final = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [_POINTER, ctypes.c_char_p, _POINTER]

"""A library that AOTInductor has compiled for the CPU, called without the interpreter's lock.

Torch's own loader holds the lock for as long as a batch computes: no other slot of the worker computes meanwhile, and
nothing is read or answered. What it calls is the stable C interface of the library (`aoti_runtime/interface.h` among
torch's headers), so this calls it, too, by `ctypes`, which lets go of the lock.
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
    """The models of a library in memory: as many threads compute at once as there are, further ones wait."""

    def __init__(self, library: Any, models: int) -> None:
        """Make so many models; blocks.

        Raises:
            RuntimeError: the library refuses; why is on standard error.
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
        """Load the library of an archive; None: it needs what only torch's loader gives it, as operators of others."""
        with zipfile.ZipFile(archive) as content, tempfile.TemporaryDirectory(prefix="infaas-aot-") as folder:
            names = [name for name in content.namelist() if _FOLDER in name]
            libraries = [name for name in names if name.endswith(".so")]
            needs = [name for name in names if name.endswith(".json") and not name.endswith(_METADATA)]
            if len(libraries) != 1 or needs:
                return None
            return cls(ctypes.CDLL(content.extract(libraries[0], folder)), models)  # it stays mapped without the file

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Compute a batch; the tensors must be such as it was compiled for, which nothing checks.

        Raises:
            ValueError: there are more or fewer than it takes.
            RuntimeError: it failed; why is on standard error.
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
        raise RuntimeError(f"the compiled program could not {what}; see what it wrote to standard error")


_address: Final = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
_new_capsule: Final = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [_POINTER, ctypes.c_char_p, _POINTER]

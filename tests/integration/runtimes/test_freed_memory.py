"""Test of `keep_freed_memory`: the process keeps freed memory instead of returning it to the system."""

import ctypes
import resource
import subprocess
import sys

_BLOCKS, _BLOCK_BYTES = 4, 12 << 20
_TAKE = f"from {__name__} import pages_taken_again; print(pages_taken_again())"
_KEEP = "from runtimes.torch.program import keep_freed_memory; keep_freed_memory();"


def pages_taken_again() -> int:
    """Return the number of pages that the system provides when freed blocks are allocated again."""
    library, taken = ctypes.CDLL(None), 0
    library.malloc.restype = ctypes.c_void_p
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(_BLOCK_BYTES))) for _ in range(_BLOCKS)]
        for block in blocks:
            ctypes.memset(block, 1, _BLOCK_BYTES)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        for block in blocks:
            library.free(block)
    return taken


def test_keep_freed_memory_reuses_pages() -> None:
    pages = _BLOCKS * _BLOCK_BYTES // resource.getpagesize()
    assert _printed(_TAKE) > pages / 2, "else this test shows nothing"
    assert _printed(_KEEP + _TAKE) < pages / 100


def _printed(code: str) -> int:
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

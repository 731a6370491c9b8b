"""Tests of reading CPU properties from `/proc/cpuinfo`."""

from pathlib import Path

import pytest

from runtimes import device


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [
        ("fpu sse2 avx2 fma", True),
        ("fpu sse2 avx2 avx512f avx512_vnni", False),
        ("fpu avx2 avx_vnni", False),
        ("fp asimd asimddp", False),
    ],
)
def test_int8_saturates_only_on_x86_without_vnni(
    flags: str, saturates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: other\n")
    monkeypatch.setattr(device, "_CPUINFO", cpuinfo)
    assert device.int8_saturates() is saturates
    assert device.device_name("cpu") == "A CPU"

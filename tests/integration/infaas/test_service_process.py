"""Tests of a supervised service process."""

import asyncio
from pathlib import Path

import pytest

from infaas.up.processes import Child, child_spec
from schemas.errors import OperatorError


async def test_child_announces_the_reason_of_its_end(tmp_path: Path) -> None:
    announced = await _announced(tmp_path, "no_such_module")
    assert len(announced) == 2
    assert announced[0].startswith("none ended with code 1 (")
    assert announced[0].endswith("No module named no_such_module); restarting it")


async def test_child_announces_no_words_of_its_predecessor(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("raise SystemExit(1)")
    announced = await _announced(tmp_path, "silent", log="words of the process before\n")
    assert announced[0] == "none ended with code 1; restarting it"


async def _announced(home: Path, module: str, log: str = "") -> list[str]:
    """Run a module until its supervisor gives up; return the announcements."""
    announced: list[str] = []

    async def up() -> None:
        pass

    spec = child_spec(home, "none", module, {"PYTHONPATH": str(home)}, "http://127.0.0.1:9")
    spec.log.parent.mkdir()
    spec.log.write_text(log)
    child = Child(spec, announced.append, lambda: None, up)
    with pytest.raises(OperatorError, match="none does not start"):
        async with asyncio.timeout(30.0):
            await child.keep_running()
    return announced

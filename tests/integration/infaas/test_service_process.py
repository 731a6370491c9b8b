"""Test of a supervised service process."""

import asyncio
from pathlib import Path

import pytest

from infaas.up.processes import Child, child_spec
from schemas.errors import OperatorError


async def test_child_announces_the_reason_of_its_end(tmp_path: Path) -> None:
    announced: list[str] = []

    async def up() -> None:
        pass

    spec = child_spec(tmp_path, "none", "no_such_module", {}, "http://127.0.0.1:9")
    spec.log.parent.mkdir()
    child = Child(spec, announced.append, lambda: None, up)
    with pytest.raises(OperatorError, match="none does not start"):
        async with asyncio.timeout(30.0):
            await child.keep_running()
    assert len(announced) == 2
    assert announced[0].startswith("none ended with code 1 (")
    assert announced[0].endswith("No module named no_such_module); restarting it")

"""Tests of the build of the application's wheel: the manual, if it was built before."""

from pathlib import Path
from typing import Any, cast

import pytest

from gateway.http.manual import PACKAGED
from hatch_build import OnePackageHook

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("built", [True, False])
def test_wheel_contains_built_manual_where_its_gateway_looks(tmp_path: Path, built: bool) -> None:
    site = tmp_path / "build" / "site"
    site.mkdir(parents=True)
    if built:
        (site / "index.html").write_text("<h1>INFaaS</h1>")
    found: dict[str, Any] = {"force_include": {}}
    unused = cast(Any, None)
    hook = OnePackageHook(str(tmp_path), {"package": "infaas", "packages": []}, unused, unused, "", "wheel")
    hook.initialize("standard", found)
    hook.finalize("standard", found, "")
    in_package = PACKAGED.relative_to(ROOT)
    assert found["force_include"].get(str(site)) == (f"infaas/{in_package}" if built else None)

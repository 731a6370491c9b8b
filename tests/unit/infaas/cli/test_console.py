"""Tests of `infaas console`: the printed address, and the browser that is opened if there is a graphical one."""

import pytest

from tests.unit.infaas.conftest import shell
from tests.unit.infaas.shell import Shell

__all__ = ["shell"]


@pytest.mark.parametrize("graphical", [True, False])
def test_console_prints_address_and_opens_graphical_browser(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, graphical: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("INFAAS_URL", "http://127.0.0.1:18999/v1/")
    for name in ("WAYLAND_DISPLAY", "BROWSER", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if graphical:
        monkeypatch.setenv("DISPLAY", ":0")
    address = "http://127.0.0.1:18999/console"
    assert shell("console").stdout == f"{address}\n"
    assert opened == [address] * graphical

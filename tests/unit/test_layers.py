"""Tests of the layers of tests: unit, integration, system."""

import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_test_files_belong_to_layers() -> None:
    layers = {file.relative_to(TESTS).parts[0] for file in TESTS.rglob("test_*.py")}
    assert layers == {"unit", "integration", "system"}


def test_unit_tests_cannot_start_processes() -> None:
    with pytest.raises(RuntimeError, match="belongs into tests/integration"):
        subprocess.run(["true"], check=False)

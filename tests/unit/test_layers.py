"""Every test has a layer, and a unit test can start nothing."""

import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_every_test_is_in_a_layer() -> None:
    layers = {file.relative_to(TESTS).parts[0] for file in TESTS.rglob("test_*.py")}
    assert layers == {"unit", "integration", "system"}


def test_a_unit_test_that_starts_a_process_fails() -> None:
    with pytest.raises(RuntimeError, match="belongs into tests/integration"):
        subprocess.run(["true"], check=False)

"""Tests of the names of workers, with and without a machine's prefix."""

import pytest

from schemas.worker_names import hardware_of, number_of, worker_name


@pytest.mark.parametrize("prefix", ["", "box-3f9a-", "gpu-box-3f9a-"])
def test_worker_name_contains_hardware_and_number(prefix: str) -> None:
    name = worker_name("cuda", 12, prefix)
    assert (name, hardware_of(name), number_of(name)) == (f"{prefix}cuda-12", "cuda", 12)

"""Tests of the options of `infaas up` before anything starts."""

import os
from pathlib import Path

import pytest

from infaas.supervisor.options import UpOptions, check_cores
from schemas.errors import OperatorError


def test_check_cores_refuses_oversubscription_by_default(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    options = UpOptions(home=tmp_path, workers=1, max_workers=cores + 1, cores_per_worker=1)
    with pytest.raises(OperatorError, match="--oversubscribe"):
        check_cores(options)
    check_cores(UpOptions(home=tmp_path, workers=1, max_workers=cores))
    check_cores(UpOptions(home=tmp_path, max_workers=cores + 1, cores_per_worker=1, oversubscribe=True))


def test_check_cores_ignores_workers_of_cluster_launcher(tmp_path: Path) -> None:
    options = UpOptions(home=tmp_path, workers=10_000, cores_per_worker=1, launcher="ray")
    check_cores(options)
    assert (options.first_workers, options.workers) == (0, 10_000)
    assert UpOptions(home=tmp_path, workers=3).first_workers == 3

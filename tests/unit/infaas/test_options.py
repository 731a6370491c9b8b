"""What `infaas up` makes of its flags before it starts anything."""

import os
from pathlib import Path

import pytest

from infaas.supervisor.options import UpOptions, check_cores
from schemas.errors import OperatorError


def test_workers_have_no_more_cores_than_the_machine_unless_allowed(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    options = UpOptions(home=tmp_path, workers=1, max_workers=cores + 1, cores_per_worker=1)
    with pytest.raises(OperatorError, match="--oversubscribe"):
        check_cores(options)
    check_cores(UpOptions(home=tmp_path, workers=1, max_workers=cores))
    check_cores(UpOptions(home=tmp_path, max_workers=cores + 1, cores_per_worker=1, oversubscribe=True))


def test_beside_a_clusters_launcher_no_worker_runs_on_this_machine(tmp_path: Path) -> None:
    options = UpOptions(home=tmp_path, workers=10_000, cores_per_worker=1, launcher="ray")
    check_cores(options)
    assert (options.first_workers, options.workers) == (0, 10_000)
    assert UpOptions(home=tmp_path, workers=3).first_workers == 3

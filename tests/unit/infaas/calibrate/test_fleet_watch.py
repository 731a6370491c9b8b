"""Tests of the samples of a fleet."""

from datetime import UTC, datetime

import msgspec

from infaas.calibrate.fleet_watch import FleetWatch
from schemas.rows.cluster import ClusterRows, ScaleControl, WantedWorkers, WorkerRow
from schemas.status import InstanceState
from tests.example_rows import a_worker, an_instance

AT = datetime(2026, 1, 1, tzinfo=UTC)


def rows(workers: list[WorkerRow], wanted: int) -> ClusterRows:
    instances = [
        msgspec.structs.replace(an_instance("a.b.cpu"), state=state)
        for state in (InstanceState.ACTIVE, InstanceState.LOADING)
    ]
    return ClusterRows(
        control=ScaleControl(paused=False, changed_by="", changed_at=AT),
        wanted=[WantedWorkers(hardware="cpu", count=wanted, reason="")],
        workers=workers,
        instances=instances,
        pins=[],
    )


def test_fleet_is_paid_for_from_wish_to_end() -> None:
    watch = FleetWatch({"cpu": 0.3})
    first, second = a_worker("cpu-0"), a_worker("cpu-1")
    watch.add(rows([first], 1), 0.0)
    watch.add(rows([first], 2), 1.0)  # the second starts
    watch.add(rows([first, second], 1), 2.0)  # the second drains
    watch.add(rows([first], 1), 3.0)
    assert [round(sample.usd_per_hour, 6) for sample in watch.samples] == [0.3, 0.6, 0.6, 0.3]
    assert watch.usd(4.0) == 0.45 * 4.0 / 3600
    assert watch.samples[0].workers == {"cpu": 1}
    assert watch.samples[0].instances == {"a.b.cpu": 1}


def test_dead_worker_does_not_count() -> None:
    watch = FleetWatch({"cpu": 0.3})
    watch.add(rows([a_worker(alive=False)], 0), 0.0)
    assert watch.samples[0].workers == {}

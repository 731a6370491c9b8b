"""Tests of the state file of a running system."""

from pathlib import Path

from infaas.up.state import STATE, StateFile, SystemState, claimed, read_state
from tests.waiting import until


def a_state() -> SystemState:
    return SystemState(
        pid=1, ready=True, gateway="", kafka="", kafka_kind="apache", kafka_reason="", fetch_max_wait_ms=500,
        postgres="", servers={}, services={},
    )  # fmt: skip


async def test_state_file_retries_failed_write(tmp_path: Path) -> None:
    in_the_way = tmp_path / STATE
    in_the_way.mkdir()  # as a full disk, it lets nothing be written
    with claimed(tmp_path):
        file = StateFile(tmp_path, a_state)
        file.write()
        assert not in_the_way.is_file()
        in_the_way.rmdir()
        await until(in_the_way.is_file)
        file.close()
        assert read_state(tmp_path) == a_state()

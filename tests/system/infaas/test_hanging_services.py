"""Test of services of `infaas up` that hang: the liveness probe finds them, and they are replaced."""

import json
from typing import Any

import psutil
import pytest

from infaas.supervisor.state import STATE
from tests.system.infaas.conftest import Cli
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)
HANGING = ("selector", "gateway", "autoscaler")


async def test_hanging_services_are_replaced(cli: Cli) -> None:
    async with cli.up(INFAAS_HANG_S="6"):
        state = await cli.json("status", "--wait")
        hanging = [psutil.Process(state["services"][name]["pid"]) for name in HANGING]
        for process in hanging:
            process.suspend()
        await until(lambda: all(services(cli)[name]["restarts"] for name in HANGING), 100)
        state = await cli.json("status", "--wait")
        assert not any(process.is_running() for process in hanging)
        assert {name: state["services"][name]["restarts"] for name in HANGING} == dict.fromkeys(HANGING, 1)
        assert state["services"]["worker-cpu-0"]["restarts"] == 0


def services(cli: Cli) -> Any:
    return json.loads((cli.home / STATE).read_bytes())["services"]

"""Test of `infaas calibrate`: a simulation of the running system does not drift from it.

The bounds allow for other processes on the machine, which make real batches slower, and hide no model that is wrong:
a query of half the load that takes twice its time, another variant, or a load that is answered instead of refused.
"""

import json
from typing import Any

from tests.system.infaas.conftest import Cli

TASK = "calibrated"
POINTS = 0.15
"""Allowed difference of shares."""
FACTOR = 2.5
SLACK_MS = 15.0
"""Delay of a busy machine's scheduler, beside which a factor of a few milliseconds says nothing."""


async def test_simulation_does_not_drift_from_shared_system(shared: Cli) -> None:
    await shared.register("mnist_resnet.onnx", "--name=calibrated-resnet", task=TASK, data="mnist", most=200)
    await shared.register("mnist_mlp.onnx", "--name=calibrated-mlp", task=TASK, data="mnist", most=200)
    code, out, err = await shared.run("calibrate", "half", "overload", f"--task={TASK}", "--quick", "--json")
    assert code in (0, 1), err
    found: dict[str, Any] = {one["name"]: one for one in json.loads(out)["scenarios"]}
    for name, scenario in found.items():
        figures = {figure["name"]: figure for figure in scenario["figures"]}
        assert gap(figures["attainment"]) <= POINTS, (name, scenario)
        assert gap(figures["accuracy"]) <= POINTS / 10, (name, scenario)
        for real, simulated in scenario["variants"].values():
            assert abs(real - simulated) <= POINTS, (name, scenario)
    p50 = {figure["name"]: figure for figure in found["half"]["figures"]}["p50_ms"]
    low, high = sorted((p50["real"], p50["simulated"]))
    assert high <= FACTOR * low + SLACK_MS, p50


def gap(figure: dict[str, Any]) -> float:
    """Return the difference of the real and the simulated figure."""
    return abs(figure["real"] - figure["simulated"])

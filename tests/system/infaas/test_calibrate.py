"""Test of `infaas calibrate`: a simulation of the running system does not drift from it.

Other processes of the machine take time from the real system and from the measurement of its delays, and the simulation
does not know how much. So latencies may differ by a factor, an overload may be answered less than in the simulation,
and the exit code is not checked. Other variants, refusals without need, and answers beyond the capacity are drifts.
"""

import json
from typing import Any

from tests.system.infaas.conftest import Cli

TASK = "calibrated"
POINTS = 0.15
"""Allowed difference of shares."""
FACTOR = 3.0
SLACK_MS = 30.0
ANSWERED = 0.6
"""Most that a fleet can answer of 2.5 times its capacity, with some slack for the profile: two fifths."""


async def test_simulation_does_not_drift_from_shared_system(shared: Cli) -> None:
    await shared.state()
    for model in ("resnet", "mlp"):
        await shared.register(f"mnist_{model}.onnx", f"--name=calibrated-{model}", task=TASK, data="mnist", most=200)
    words = ("low", "overload", f"--task={TASK}", "--seconds=5", "--repeats=1", "--json")
    code, out, err = await shared.run("calibrate", *words)
    assert code in (0, 1), err
    low, overload = json.loads(out)["scenarios"]

    for scenario in (low, overload):
        for real, simulated in scenario["variants"].values():
            assert abs(real - simulated) <= POINTS, scenario
    real, simulated = values(low, "attainment")
    assert simulated >= max(real - POINTS, 1.0 - POINTS), low
    real, simulated = values(low, "p50_ms")
    assert max(real, simulated) <= FACTOR * min(real, simulated) + SLACK_MS, low
    real, simulated = values(overload, "attainment")
    assert max(real - POINTS, 0.05) <= simulated <= ANSWERED, overload


def values(scenario: dict[str, Any], name: str) -> tuple[float, float]:
    """Return the real and the simulated value of a figure."""
    [figure] = [one for one in scenario["figures"] if one["name"] == name]
    return figure["real"], figure["simulated"]

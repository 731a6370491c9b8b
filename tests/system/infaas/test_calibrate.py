"""Test of `infaas calibrate`: a simulation of the running system does not drift from it.

A machine that other programs keep busy is slower than the profiles say, for a while. So the calibration is repeated
until it finds no drift, and its bounds are wider than its goals. A simulator that has drifted drifts each time: it
takes other variants, refuses without need, or its latencies differ by a factor. That it answers more of an overload
than the real system counts only if the client program could send on time, so that the machine was not short of CPU.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.infaas.conftest import Cli

pytestmark = [pytest.mark.timeout(900), pytest.mark.needs_quiet]
TASK = "calibrated"
ATTEMPTS = 8
ON_TIME_MS = 20.0
POINTS = 0.15
"""Allowed difference of shares."""
FACTOR = 3.0
SLACK_MS = 30.0
SHARES = {"accuracy": 0.02, "usd_per_hour": 0.1}
"""Allowed errors of figures of a low load that the speed of the machine does not change."""


async def test_simulation_does_not_drift_from_shared_system(shared: Cli) -> None:
    await shared.state()
    for model in ("resnet", "mlp"):
        await shared.register(f"mnist_{model}.onnx", f"--name=calibrated-{model}", task=TASK, data="mnist", most=200)
    found: list[str] = []
    for _ in range(ATTEMPTS):
        words = ("low", "overload", f"--task={TASK}", "--seconds=5", "--repeats=1", "--json")
        code, out, err = await shared.run("calibrate", *words)
        assert code in (0, 1), err
        low, overload = json.loads(out)["scenarios"]
        found = [*drifts(low, overload)]
        if not found:
            return
    pytest.fail(f"after {ATTEMPTS} calibrations: {'; '.join(found)}")


def drifts(low: dict[str, Any], overload: dict[str, Any]) -> Iterator[str]:
    """Yield the bounds that two calibrated scenarios exceed."""
    for scenario in (low, overload):
        for variant, (real, simulated) in scenario["variants"].items():
            if abs(real - simulated) > POINTS:
                yield f"{variant} answers {real:.0%}, simulated {simulated:.0%} in {scenario['name']}"
        real, simulated = (share or 0.0 for share in values(scenario, "attainment"))
        is_starved = scenario is overload and scenario["send_delay_p99_ms"] > ON_TIME_MS
        if simulated < real - POINTS or (simulated > real + POINTS and not is_starved):
            yield f"attainment {real:.0%}, simulated {simulated:.0%} in {scenario['name']}"
    if (values(low, "attainment")[0] or 0.0) < 1.0 - POINTS:
        yield "the real system does not answer a low load"
    for name, most in SHARES.items():
        real, simulated = values(low, name)
        if real is None or simulated is None or abs(simulated - real) > most * real:
            yield f"{name} {real}, simulated {simulated}"
    real, simulated = values(low, "p50_ms")
    if real is None or simulated is None:
        yield "no latency is known"
    elif max(real, simulated) > FACTOR * min(real, simulated) + SLACK_MS:
        yield f"p50 {real:.0f} ms, simulated {simulated:.0f} ms"


def values(scenario: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """Return the real and the simulated value of a figure; None: unknown."""
    [figure] = [one for one in scenario["figures"] if one["name"] == name]
    return figure["real"], figure["simulated"]

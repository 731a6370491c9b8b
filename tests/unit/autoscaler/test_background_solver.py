"""Tests of `BackgroundSolver`: targets arrive while decisions go on, and a failure removes them."""

import asyncio
import threading

import pytest

from autoscaler.apply.background_solver import BackgroundSolver
from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.plan import SolverTargets
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits

NEWS = SolverTargets(instances={"mlp.onnx-fp32.cpu": 2}, reason="a test")


async def test_background_solver_sets_targets_until_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    may_end, answered = threading.Event(), asyncio.Event()
    answers: list[SolverTargets | Exception] = [NEWS, ValueError("infeasible")]

    def solve_targets(
        ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits
    ) -> SolverTargets | None:
        assert may_end.wait(10)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("autoscaler.decide.optimizer.milp.solve_targets", solve_targets)
    solver = BackgroundSolver(ScalingLimits(), 0.001, answered.set)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(solver.run())
        solver.submit(VariantRanking(), ClusterSnapshot())
        await asyncio.sleep(0)
        assert solver.targets is None
        may_end.set()
        await answered.wait()
        assert solver.targets == NEWS
        answered.clear()
        solver.submit(VariantRanking(), ClusterSnapshot())
        await answered.wait()
        assert solver.targets is None
        running.cancel()
    assert "infeasible" in caplog.text

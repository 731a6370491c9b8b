"""The solver beside the decisions: its answers arrive, and its failures do no harm."""

import asyncio
import threading

import pytest

from autoscaler.adviser import Adviser
from autoscaler.decide.pareto import Ranking
from autoscaler.decide.situation import Limits, Situation, Targets

NEWS = Targets(instances={"mlp.onnx-fp32.cpu": 2}, reason="a test")


async def test_an_answer_arrives_beside_the_loop_and_a_failure_takes_it_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    may_end, advised = threading.Event(), asyncio.Event()
    answers: list[Targets | Exception] = [NEWS, ValueError("infeasible")]

    def aim(ranking: Ranking, situation: Situation, limits: Limits) -> Targets | None:
        assert may_end.wait(10)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("autoscaler.decide.milp.aim", aim)
    adviser = Adviser(Limits(), 0.001, advised.set)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(adviser.run())
        adviser.consider(Ranking(), Situation())
        await asyncio.sleep(0)
        assert adviser.targets is None
        may_end.set()
        await advised.wait()
        assert adviser.targets == NEWS
        advised.clear()
        adviser.consider(Ranking(), Situation())
        await advised.wait()
        assert adviser.targets is None
        running.cancel()
    assert "infeasible" in caplog.text

"""Tests of several systems on one Kafka: each has a namespace of its own, which no other may use."""

from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from broker.settings import KafkaSettings
from tests.processes import login_of
from tests.system.infaas.conftest import FREE_PORTS, Cli
from tests.system.infaas.plain_client import partitions, results_of, write

pytestmark = pytest.mark.timeout(400)
ASKED = 300


async def test_namespaces_keep_systems_apart(kafka: KafkaSettings, tmp_path: Path) -> None:
    word = uuid4().hex[:8]
    names = [f"one-{word}", f"two-{word}"]
    systems = [Cli(tmp_path / name / "home") for name in names]
    places = [{**login_of(kafka), "INFAAS_KAFKA_NAMESPACE": name} for name in names]
    async with AsyncExitStack() as stack:
        for cli, place in zip(systems, places, strict=True):
            await stack.enter_async_context(cli.up(**place))
            await cli.json("status", "--wait")
            await cli.register("digits_linear.onnx", task="digits", env=place)
        results = [await stack.enter_async_context(results_of(kafka.bootstrap, "digits", name)) for name in names]

        async def ask(number: int, words: str) -> None:
            topic = f"{names[number]}.tasks.digits"
            count = await partitions(kafka.bootstrap, topic)
            asked = await write(kafka.bootstrap, topic, (f"{words}-{i}" for i in range(ASKED)), count)
            assert await results[number].of(asked) == Counter(asked)

        await ask(0, "first")
        await ask(1, "second")
        assert not results[0].seen.keys() & results[1].seen.keys()

        code, _, err = await systems[0].run("unregister", "digits", "--force", "--results-grace=0", **places[0])
        assert code == 0, err
        await ask(1, "after")
        assert sum(results[0].seen.values()) == ASKED

        code, _, err = await systems[0].run("unregister", "digits", INFAAS_KAFKA_NAMESPACE=names[1])
        assert code == 1
        assert f"set INFAAS_KAFKA_NAMESPACE={names[0]}" in err


async def test_second_system_in_a_namespace_is_refused(kafka: KafkaSettings, tmp_path: Path) -> None:
    place = {**login_of(kafka), "INFAAS_KAFKA_NAMESPACE": f"taken-{uuid4().hex[:8]}"}
    first, second = (Cli(tmp_path / name / "home") for name in ("first", "second"))
    async with first.up(**place):
        await first.json("status", "--wait")
        code, _, err = await second.run("up", *FREE_PORTS, **place)
        assert code == 1
        assert "belong to another system" in err
        assert "INFAAS_KAFKA_NAMESPACE" in err
        assert "Traceback" not in err
    async with second.up("--take-over", **place):  # the first system has ended
        await second.json("status", "--wait")
    code, _, err = await first.run("up", *FREE_PORTS, **place)
    assert code == 1
    assert "belong to another system" in err

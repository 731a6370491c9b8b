"""Test of several systems on one Kafka: each has a namespace, which no other may use unless it takes over."""

from collections import Counter
from collections.abc import Generator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from tests.postgres_fixtures import fresh_system
from tests.processes import variables_of
from tests.system.infaas.conftest import FREE_PORTS, Cli
from tests.system.infaas.plain_client import partitions, results_of, write

pytestmark = pytest.mark.needs_minutes

ASKED = 300


@pytest.fixture
def databases(postgres_server: str, template: str) -> Generator[list[str]]:
    """DSNs of the databases of three systems."""
    with ExitStack() as stack:
        yield [stack.enter_context(fresh_system(postgres_server, template)) for _ in range(3)]


async def test_namespaces_keep_systems_apart(kafka: KafkaSettings, databases: list[str], tmp_path: Path) -> None:
    word = uuid4().hex[:8]
    names = [f"one-{word}", f"two-{word}"]
    *systems, successor = (Cli(tmp_path / name / "home") for name in (*names, "successor"))
    *places, later = (
        {**variables_of(kafka, dsn), "INFAAS_KAFKA_NAMESPACE": name}
        for dsn, name in zip(databases, (*names, names[0]), strict=True)
    )
    async with AsyncExitStack() as stack:
        for cli, place in zip(systems, places, strict=True):
            await stack.enter_async_context(cli.up(**place))
            await cli.state()
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
        await is_refused(successor, later)
    async with successor.up("--take-over", **later):  # the first system has ended
        await successor.state()
    await is_refused(systems[0], places[0])


async def is_refused(cli: Cli, place: dict[str, str]) -> None:
    """Assert that a system does not start in the namespace of another one."""
    code, _, err = await cli.run("up", *FREE_PORTS, **place)
    assert code == 1
    assert "belong to another system" in err
    assert "INFAAS_KAFKA_NAMESPACE" in err
    assert "Traceback" not in err

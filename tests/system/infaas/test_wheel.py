"""Tests of the wheels, built from this tree and installed into empty environments."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, is_zipfile

import pytest

from broker.kafka.settings import ENV as KAFKA_ENV
from broker.kafka.settings import KafkaSettings
from store.settings import ENV as POSTGRES_ENV
from tests.installed import PATIENCE_S, Environment, build_wheels, requirements

pytestmark = [pytest.mark.needs_minutes, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[3]
MOST_BYTES = {"": 1_800_000, "simulator/traces": 1_500_000, "simulator/catalogues": 400_000, "manual": 2_500_000}
"""Compressed size of each folder, and of the rest; the manual is there where `make docs-site` made it."""
OUR_NAMES = ("schemas", "broker", "store", "process", "selector", "workers", "gateway", "zoo")


class Wheels(NamedTuple):
    """The wheels of this tree."""

    core: Path
    zoo: Path


def _names(wheel: Path) -> set[str]:
    assert is_zipfile(wheel)
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def _version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    folder = tmp_path_factory.mktemp("wheels")
    build_wheels(folder, ROOT, ROOT / "packages" / "zoo")
    (core,), (zoo,) = folder.glob("infaas-*.whl"), folder.glob("infaas_zoo-*.whl")
    return Wheels(core, zoo)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: Wheels) -> Environment:
    """The core wheel in an environment whose user has packages with the names of ours in the current folder."""
    environment = Environment(tmp_path_factory.mktemp("installed"), wheels.core)
    for name in OUR_NAMES:
        package = environment.cwd / name
        package.mkdir()
        (package / "__init__.py").write_text(f"OWNER = 'the user of {name}'\n")
    return environment


def test_core_wheel_is_small_typed_and_without_tests(wheels: Wheels) -> None:
    names, sizes = _names(wheels.core), Counter[str]()
    with ZipFile(wheels.core) as archive:
        for one in archive.infolist():
            folder = next((name for name in MOST_BYTES if name and one.filename.startswith(f"infaas/{name}/")), "")
            sizes[folder] += one.compress_size
    assert not {folder: size for folder, size in sizes.items() if size > MOST_BYTES[folder]}
    assert {name.partition("/")[0] for name in names} == {"infaas", f"infaas-{_version(wheels.core)}.dist-info"}
    assert {"infaas/py.typed", "infaas/selector/py.typed", "infaas/store/queries/claims.sql"} <= names
    assert {f"infaas/gateway/console/{file}" for file in ("templates/base.html", "static/htmx.min.js")} <= names
    assert not {f"infaas/{folder}/__init__.py" for folder in ("bench", "tests", "tools", "zoo")} & names


def test_zoo_wheel_has_data_and_requires_core(wheels: Wheels) -> None:
    shipped = {f"infaas_zoo/data/{file.name}" for file in (ROOT / "packages/zoo/data").iterdir()}
    names = _names(wheels.zoo)
    assert shipped | {"infaas_zoo/py.typed", "infaas_zoo/register.py"} <= names
    assert {name.partition("/")[0] for name in names} == {"infaas_zoo", f"infaas_zoo-{_version(wheels.zoo)}.dist-info"}
    assert ("infaas", {"cpu", "image", "text"}) in [(need.name, need.extras) for need in requirements(wheels.zoo)]
    assert _version(wheels.zoo) == _version(wheels.core)


async def test_installed_command_prints_help(installed: Environment) -> None:
    code, out, err = await installed.output("infaas", "--help")
    assert (code, err) == (0, "")
    assert "register" in out


async def test_library_imports_beside_packages_of_same_names(installed: Environment) -> None:
    program = f"""
import importlib
from infaas.client import InfaasClient
assert InfaasClient.__module__.startswith("infaas."), InfaasClient.__module__
for name in {OUR_NAMES}:
    assert importlib.import_module(name).OWNER == "the user of " + name
"""
    assert await installed.output("python", "-c", program) == (0, "", "")


@pytest.mark.parametrize("words", [("register", "--zoo"), ("up", "--register-zoo"), ("demo",)])
async def test_commands_without_zoo_name_its_installation(installed: Environment, words: tuple[str, ...]) -> None:
    code, _, err = await installed.output("infaas", *words)
    assert code == 1
    assert err.startswith("error: ")
    assert "pip install ./packages/zoo" in err


async def test_installed_up_uses_external_servers(
    installed: Environment, embedded_kafka: KafkaSettings, database: str
) -> None:
    flags = ("--kafka=external", "--gateway-port=0")
    elsewhere = {KAFKA_ENV: embedded_kafka.bootstrap, POSTGRES_ENV: database}
    supervisor = await installed.start("infaas", "up", *flags, **elsewhere)
    try:
        code, out, err = await installed.output("infaas", "status", "--wait", "--json", "--show-secrets")
        assert code == 0, err
        state = json.loads(out)
        assert (state["kafka"], state["postgres"]) == (embedded_kafka.bootstrap, database)
        assert all(service["ready"] for service in state["services"].values())
    finally:
        if supervisor.returncode is None:
            supervisor.terminate()
        async with asyncio.timeout(PATIENCE_S):
            _, told = await supervisor.communicate()
    assert supervisor.returncode == 0, told.decode()

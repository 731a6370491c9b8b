"""The wheels, built from this tree and installed where nothing else is.

No package index is asked: an empty environment sees links to those packages of the test's own that the wheel says it
needs, and to what these need in turn. What the wheel forgets to name is missing there, as for whoever installs it.
"""

import asyncio
import json
import os
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from subprocess import run
from typing import NamedTuple
from zipfile import Path as ZipPath
from zipfile import ZipFile, is_zipfile

import pytest
from packaging.requirements import Requirement

from broker.settings import ENV as KAFKA_ENV
from broker.settings import KafkaSettings

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[3]
MOST_BYTES = 1_000_000
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
UP_S = 90.0


class Wheels(NamedTuple):
    """The wheels of this tree."""

    core: Path
    zoo: Path


class Environment:
    """A virtual environment in which only one wheel of ours is installed."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self._bin = folder / "venv" / "bin"
        self.cwd = folder
        venv.create(folder / "venv", symlinks=True)
        run([*PIP, "--python", self._bin / "python", "install", "--no-index", "--no-deps", wheel], check=True)
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        linked = folder / "linked"
        linked.mkdir()
        link_requirements(_requirements(wheel), linked)
        (packages / "linked.pth").write_text(str(linked))

    async def infaas(self, *words: str, **extra: str) -> asyncio.subprocess.Process:
        """Start the command in a folder where nothing of the checkout is."""
        ours = ("INFAAS_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return await asyncio.create_subprocess_exec(
            *(self._bin / "infaas", *words),
            cwd=self.cwd,
            env=environment | extra,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def output(self, *words: str) -> tuple[int | None, str, str]:
        """Run the command to its end."""
        process = await self.infaas(*words)
        async with asyncio.timeout(UP_S):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


def link_requirements(requirements: Iterable[Requirement], folder: Path) -> None:
    """Link what satisfies these requirements here, and all that they need, into `folder`."""
    todo, done = list(requirements), set[str]()
    while todo:
        wanted = todo.pop()
        if str(wanted) in done:
            continue
        done.add(str(wanted))
        found = distribution(wanted.name)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(str(found.locate_file(name)))
        todo += _needed(found.requires or (), wanted.extras)


def _needed(requires: Iterable[str], extras: Iterable[str] = ()) -> list[Requirement]:
    """Those that apply to this Python, without or with one of the extras."""
    wanted = [Requirement(text) for text in requires]
    return [
        requirement
        for requirement in wanted
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def _requirements(wheel: Path) -> list[Requirement]:
    (info,) = (entry for entry in ZipPath(wheel).iterdir() if entry.name.endswith(".dist-info"))
    return _needed(PathDistribution(info).requires or ())


def _names(wheel: Path) -> set[str]:
    assert is_zipfile(wheel)
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    folder = tmp_path_factory.mktemp("wheels")
    build = (*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run([*build, ROOT, ROOT / "zoo"], check=True)
    (core,), (zoo,) = folder.glob("infaas-*.whl"), folder.glob("infaas_zoo-*.whl")
    return Wheels(core, zoo)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: Wheels) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"), wheels.core)


def test_the_cores_wheel_is_small_typed_and_without_what_only_a_checkout_needs(wheels: Wheels) -> None:
    assert wheels.core.stat().st_size < MOST_BYTES
    names = _names(wheels.core)
    packages = {name.partition("/")[0] for name in names if name.endswith(".py")}
    assert "infaas" in packages
    assert {f"{package}/py.typed" for package in packages} <= names
    assert not packages & {"bench", "tests", "tools", "zoo"}


def test_the_zoos_wheel_has_all_its_models_and_data_and_needs_the_core(wheels: Wheels) -> None:
    shipped = {f"zoo/data/{file.name}" for file in (ROOT / "zoo/data").iterdir()}
    assert shipped | {"zoo/py.typed", "zoo/register.py"} <= _names(wheels.zoo)
    assert ("infaas", {"cpu", "image", "text"}) in [(need.name, need.extras) for need in _requirements(wheels.zoo)]
    assert wheels.zoo.name.split("-")[1] == wheels.core.name.split("-")[1], "the two are of one version"


async def test_the_command_runs(installed: Environment) -> None:
    code, out, err = await installed.output("--help")
    assert (code, err) == (0, "")
    assert "register" in out


@pytest.mark.parametrize("words", [("register", "--zoo"), ("up", "--register-zoo"), ("demo",)])
async def test_what_needs_the_zoo_says_how_to_install_it(installed: Environment, words: tuple[str, ...]) -> None:
    code, _, err = await installed.output(*words)
    assert code == 1
    assert err.startswith("error: ")
    assert "pip install 'infaas[zoo]'" in err


async def test_a_system_starts_on_servers_of_others(
    installed: Environment, embedded_kafka: KafkaSettings, database: str
) -> None:
    flags = ("--kafka=external", f"--postgres={database}", "--gateway-port=0")
    supervisor = await installed.infaas("up", *flags, **{KAFKA_ENV: embedded_kafka.bootstrap})
    try:
        code, out, err = await installed.output("status", "--wait", "--json")
        assert code == 0, err
        state = json.loads(out)
        assert (state["kafka"], state["postgres"]) == (embedded_kafka.bootstrap, database)
        assert all(service["ready"] for service in state["services"].values())
    finally:
        if supervisor.returncode is None:
            supervisor.terminate()
        async with asyncio.timeout(UP_S):
            _, told = await supervisor.communicate()
    assert supervisor.returncode == 0, told.decode()

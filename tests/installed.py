"""Packages installed for tests: wheels built from this tree, in empty environments, and Node.js programs in the cache.

No package index of Python is used. The environment has links to the packages of the test's own environment that the
wheel requires, and to their requirements in turn. A requirement that the wheel does not declare is therefore missing.
"""

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import venv
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from subprocess import run
from zipfile import Path as ZipPath

import pytest
from packaging.requirements import Requirement

from broker.kafka.servers.jars import cache_dir

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
PATIENCE_S = 90.0
CLIENT = Path(__file__).parents[1] / "packages" / "client"


class Environment:
    """Virtual environment with one wheel of this project; its programs start in a folder of their own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.cwd = folder
        venv.create(folder / "venv", symlinks=True)
        run([*PIP, "--python", self.bin / "python", "install", "--no-index", "--no-deps", wheel], check=True)
        (self.packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        linked = folder / "linked"
        linked.mkdir()
        link_requirements(requirements(wheel), linked)
        (self.packages / "linked.pth").write_text(str(linked))

    async def start(self, program: str, *words: str | Path, **extra: str) -> Process:
        """Start a program of the environment without access to the checkout or to INFaaS' variables."""
        ours = ("INFAAS_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return await asyncio.create_subprocess_exec(
            *(self.bin / program, *words),
            cwd=self.cwd,
            env=environment | extra,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def output(self, program: str, *words: str | Path, **extra: str) -> tuple[int | None, str, str]:
        """Run a program to its end; return its exit code, output and errors."""
        process = await self.start(program, *words, **extra)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


def build_wheels(folder: Path, *projects: Path) -> None:
    """Build wheels of projects (folders or source distributions) into `folder`."""
    words = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run([*PIP, *words, *projects], check=True)


def build_client(folder: Path) -> Path:
    """Build the client library's source distribution, and its wheel from that distribution alone."""
    words = ("-m", "hatchling", "build", "--target", "sdist", "--directory", folder)
    run([sys.executable, *words], cwd=CLIENT, stdout=DEVNULL, check=True)
    build_wheels(folder, *folder.glob("infaas_client-*.tar.gz"))
    (wheel,) = folder.glob("infaas_client-*.whl")
    return wheel


def link_requirements(wanted: Iterable[Requirement], folder: Path) -> None:
    """Link installed packages that satisfy the requirements, and all their requirements, into `folder`."""
    todo, done = list(wanted), set[str]()
    while todo:
        one = todo.pop()
        if str(one) in done:
            continue
        done.add(str(one))
        found = distribution(one.name)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(str(found.locate_file(name)))
        todo += _needed(found.requires or (), one.extras)


def requirements(wheel: Path) -> list[Requirement]:
    """Return the requirements of a wheel without its extras."""
    (info,) = (entry for entry in ZipPath(wheel).iterdir() if entry.name.endswith(".dist-info"))
    return _needed(PathDistribution(info).requires or ())


def _needed(requires: Iterable[str], extras: Iterable[str] = ()) -> list[Requirement]:
    """Return the requirements that apply to this Python without an extra or with one of `extras`."""
    wanted = [Requirement(text) for text in requires]
    return [
        requirement
        for requirement in wanted
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def npm_installed(sources: Path, name: str, command: str) -> Path:
    """Copy a Node.js program into the user's cache and install its dependencies there, once; return the folder.

    The test is skipped, with the reason, if that is impossible.

    Args:
        sources: folder of the program.
        name: name of the folder in the cache.
        command: command of npm: `ci` with a lock file, or else `install`.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node 18+ and npm on PATH; neither is part of `make`'s needs")
    files = sorted(path for path in sources.iterdir() if path.is_file())
    folder = cache_dir() / f"{name}-{hashlib.sha256(b''.join(map(Path.read_bytes, files))).hexdigest()[:12]}"
    if not folder.is_dir():
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir(), ignore_cleanup_errors=True) as partial:
            made = Path(partial) / "made"
            shutil.copytree(sources, made, ignore=shutil.ignore_patterns("node_modules"))
            words = [npm, command, "--no-audit", "--no-fund", "--silent"]
            done = run(words, cwd=made, capture_output=True, text=True, timeout=100, check=False)
            if done.returncode:
                pytest.skip(f"`npm {command}` of {name} failed: {done.stderr[-300:]}")
            os.rename(made, folder)
    return folder

"""Fixtures: a system started by `infaas up`, and the command line."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from infaas.cli.status import is_unready, read_when_ready, state_as_json
from infaas.up.state import STATE
from tests.doc_commands import block, start_of
from tests.postgres_fixtures import fresh_system
from tests.processes import begun_with, environment, variables_of
from tests.waiting import read_until
from zoo.samples import DATA, labelled

UP_S = 180.0
OWN_PORTS = """
from infaas.up import metrics_ports
from process.sockets import free_port
metrics_ports.FIRST = {service: free_port() for service in metrics_ports.FIRST}
"""
"""Chooses free ports for metrics, because another system on this machine may use the default ones."""
FREE_PORTS = ("--gateway-port=0", "--kafka-port=0")


PREFIX = "here-"
"""Prefix of the names of workers and selectors of a home on shared servers."""


class Cli:
    """Runs `infaas` with a home folder of its own, and with these variables in all commands."""

    def __init__(self, home: Path, variables: Mapping[str, str] = {}) -> None:
        self.home = home
        self._variables = variables
        if variables:
            home.mkdir(parents=True)
            (home / "name").write_text(PREFIX.removesuffix("-"))

    def environment(self, **extra: str) -> dict[str, str]:
        return environment({"INFAAS_HOME": str(self.home), **self._variables, **extra})

    async def start(self, *words: str, **extra: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infaas.cli.main", *words),
            env=self.environment(**extra),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str, **extra: str) -> tuple[int | None, str, str]:
        process = await self.start(*words, **extra)
        async with asyncio.timeout(UP_S):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def json(self, *words: str, **extra: str) -> Any:
        code, out, err = await self.run(*words, "--json", **extra)
        assert code == 0, err
        return json.loads(out)

    async def register(
        self, model: str, *words: str, task: str, data: str = "", most: int | None = None, env: Mapping[str, str] = {}
    ) -> Any:
        """Register a model of the zoo in one variant, measured on the zoo's `data`, by default that of the task."""
        inputs, labels = labelled(data or task)
        validation = self.home.parent / "validation.npz"
        plain = {name: rows.astype("S") if rows.dtype == object else rows for name, rows in inputs.items()}
        np.savez(validation, allow_pickle=False, label=labels[:most], **{n: v[:most] for n, v in plain.items()})
        words = (f"--task={task}", *words, f"--validation={validation}", "--variant=onnx-fp32")
        return await self.json("register", str(DATA / model), *words, **env)

    async def register_texts(self, task: str, name: str = "textcnn") -> Any:
        """Register a small model that takes texts and names its classes, in the same way as `register`."""
        steps = self.home.parent / "steps.toml"
        steps.write_text(
            f'before = {{step = "tokenise", tokenizer = "{DATA}/tokenizer.json"}}\n'
            f'after = [{{step = "top", labels = "{DATA}/sentiment_classes.txt"}}]\n'
        )
        words = (f"--name={name}", f"--processing={steps}")
        return await self.register("sent_textcnn.onnx", *words, task=task, data="sentiment-text", most=1000)

    async def state(self) -> Any:
        """Return what `infaas status --wait --json --show-secrets` prints, read without a process."""
        state, problems = await read_when_ready(self.home, time.monotonic() + UP_S)
        assert not is_unready(state, problems), problems
        return msgspec.to_builtins(state_as_json(state, problems, show_secrets=True))

    async def state_when(self, holds: Callable[[Any], bool], timeout_s: float = UP_S) -> Any:
        """Return the state of the system once all services are ready and the condition holds."""
        return await read_until(self.state, holds, timeout_s)

    @asynccontextmanager
    async def up(self, *words: str, **extra: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Run a system while the context is open."""
        process = await self.start("up", *_up_flags(words), **extra)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(UP_S):
                await process.communicate()
            assert not (self.home / STATE).exists()


def _up_flags(words: tuple[str, ...]) -> list[str]:
    """Add free ports; services that take a second of CPU to start run only if `words` name them."""
    asked = {word.partition("=")[0] for word in words}
    return [*FREE_PORTS, *(f"{flag}=0" for flag in ("--jobs", "--registrars") if flag not in asked), *words]


@contextmanager
def running(cli: Cli, *words: str, **extra: str) -> Generator[Cli]:
    """Run a system that several tests share; each test has an event loop of its own."""
    command = (sys.executable, "-m", "infaas.cli.main", "up", *_up_flags(words))
    with subprocess.Popen(command, env=cli.environment(**extra), stdin=subprocess.DEVNULL) as process:
        try:
            yield cli
        finally:
            process.terminate()
            process.wait(UP_S)
            assert not (cli.home / STATE).exists()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Command line in an empty home; its systems have servers of their own, which take most of the start."""
    return Cli(tmp_path / "home")


@pytest.fixture(scope="module")
def hosted(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaSettings, postgres_server: str, template: str
) -> Generator[Cli]:
    """Command line in an empty home; its system has a namespace and a database on the session's servers."""
    home = tmp_path_factory.mktemp("hosted") / "home"
    with fresh_system(postgres_server, template) as dsn:
        namespace = f"hosted-{uuid4().hex[:8]}"
        yield Cli(home, {**variables_of(kafka, dsn), "INFAAS_KAFKA_NAMESPACE": namespace})


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cli]:
    """Run one system for all tests without special needs; its start takes as long as most of them.

    Each test has tasks and models of its own and counts from the state it finds, because processes may have been
    replaced before.
    """
    home = tmp_path_factory.mktemp("shared") / "home"
    with running(Cli(home), "--kafka=apache", "--selectors=2") as cli:
        yield cli


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cli]:
    """Run one system for the tests that kill one of two processes of a service, or overload both.

    Each test has tasks and models of its own, and waits for what replaces the processes that it killed.
    """
    home = tmp_path_factory.mktemp("pairs") / "home"
    services = ("--gateways=2", "--jobs=2", "--selectors=2", "--workers=2")
    with running(Cli(home), "--kafka=apache", *services, "--cores-per-worker=1", "--oversubscribe") as cli:
        yield cli


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cli]:
    """Run one of each service behind access control, reachable from other machines; a hanging service stays."""
    home = tmp_path_factory.mktemp("guarded")
    words = (
        *start_of(block("docs/admin.md#0")).flags,
        "--gateway-host=0.0.0.0",
        "--grpc-port=0",
        "--jobs=1",
        "--registrars=1",
    )
    patient = {"INFAAS_REGISTRAR_SILENT_S": "2", "INFAAS_HANG_S": "100"}
    with running(Cli(home / "home"), *words, **patient, **begun_with(OWN_PORTS, home)) as cli:
        yield cli

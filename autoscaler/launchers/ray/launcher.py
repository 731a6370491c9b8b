"""Workers on a Ray cluster: each is a detached actor with its resources, on whichever node has them free.

* A worker that no node has room for stays `starting`; Ray's own autoscaler, where there is one, sees its demand and
  adds a machine. What is asked of Ray twice is started once: Ray allows the name of an actor once.
* A node that dies takes its workers along. Some seconds later Ray says so (see docker/README.md), they are no longer
  listed, and whoever wanted them starts them elsewhere.
* Ray is spoken to from a child process (`driver`), not from this one. Its calls block, and only a process can be
  ended when one does not return; it ends the process that is connected to it when the cluster's head has been away for
  a minute (measured with 2.60), though the autoscaler has other things to do; and it takes over its SIGTERM.
* The autoscaler runs on a node of the cluster, which may offer no resources (`ray start --num-cpus=0 --address=...`).

Model files must be where every node finds them: INFAAS_ARTIFACTS names a folder that all of them mount.
"""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL
from typing import Final

import msgspec
from pydantic_settings import BaseSettings, SettingsConfigDict

from autoscaler.launchers.base import LaunchedWorker, LauncherError
from autoscaler.launchers.ray.messages import (
    ConnectRequest,
    DriverReply,
    DriverRequest,
    ListRequest,
    StartRequest,
    StopRequest,
)
from autoscaler.launchers.worker_template import WorkerTemplate, read_settings, worker_environment
from autoscaler.settings import AutoscalerSettings
from process.subprocesses import die_with_parent
from schemas.errors import OperatorError
from schemas.hardware import Hardware

_CONNECT_S: Final = 30.0
"""Deadline of connecting: importing Ray takes a second of CPU, finding its head some more."""
_CALL_S: Final = 10.0
_LONGEST_REPLY: Final = 16 * 1024 * 1024


class RaySettings(BaseSettings):
    """Settings of the launcher, read from the environment: `INFAAS_RAY_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_RAY_", frozen=True, extra="ignore")

    address: str = "auto"
    """Address of the cluster's head, `host:port`; `auto` is the cluster that this machine is a node of."""
    namespace: str = "infaas"
    """Namespace of the actors; two systems on one cluster need two."""
    hardware: dict[Hardware, WorkerTemplate]
    """Templates of workers by hardware: JSON, see `autoscaler.launchers.worker_template`."""
    devices: dict[Hardware, dict[str, float]] = {Hardware.CUDA: {"GPU": 1}, Hardware.NEURON: {"neuron": 1}}
    """What a worker takes of the resources that nodes offer Ray, besides cores and memory. `{"neuron_cores": 4}` where
    one node has several chips: then Ray divides them, and not only counts them."""


class RayLauncher:
    """Launcher of Ray actors. Closing it ends the process that speaks to Ray; the workers stay."""

    name: Final = "ray"

    def __init__(self, settings: RaySettings, home: Path) -> None:
        self.hardware = {
            hardware.value: template.hardware_type(hardware) for hardware, template in settings.hardware.items()
        }
        self._settings = settings
        self._home = home.absolute()
        self._driver: Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def running(self) -> list[LaunchedWorker]:
        """List all workers of our namespace, whoever started them."""
        return (await self._ask(ListRequest())).launched

    async def start(self, hardware: str, worker: str) -> None:
        """Create the worker's actor, unless it exists; one that failed is created anew."""
        of_type = Hardware(hardware)
        template = self._settings.hardware[of_type]
        request = StartRequest(
            worker=worker,
            environment=worker_environment(of_type, worker, template, self._home),
            log=str(self._home / "logs" / f"worker-{worker}.log"),
            cores=template.cores,
            memory_bytes=template.memory_bytes,
            devices=self._settings.devices.get(of_type, {}),
        )
        await self._ask(request)

    async def stop(self, worker: str) -> None:
        """Have the worker drain and its actor leave; one that has no node yet is given up."""
        await self._ask(StopRequest(worker))

    async def aclose(self) -> None:
        """End the process that speaks to Ray."""
        driver, self._driver = self._driver, None
        if driver is not None:
            if driver.returncode is None:
                driver.kill()
            await driver.wait()

    async def _ask(self, request: DriverRequest) -> DriverReply:
        """Ask Ray for something. A driver that does not answer in time is killed; the next question starts another.

        Raises:
            LauncherError: Ray says no, or nothing.
        """
        async with self._one_at_a_time:
            try:
                if self._driver is None:
                    self._driver = await _start_driver()
                    await self._connect(self._driver)
                reply = await _exchange(self._driver, request, _CALL_S)
            except (OSError, EOFError) as error:  # TimeoutError is an OSError
                await self.aclose()
                raise LauncherError(f"Ray cannot be reached: {error or 'no answer in time'}") from error
            except BaseException:  # cancelled: the answer must not be taken for that to the next question
                await self.aclose()
                raise
        if reply.error:
            raise LauncherError(f"Ray refused: {reply.error}")
        return reply

    async def _connect(self, driver: Process) -> None:
        reply = await _exchange(driver, ConnectRequest(self._settings.address, self._settings.namespace), _CONNECT_S)
        if reply.error:
            raise ConnectionError(reply.error)


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[RayLauncher]:
    """Open a launcher, for the time of the context.

    Raises:
        OperatorError: Ray is not installed, or its settings are wrong.
    """
    if find_spec("ray") is None:
        raise OperatorError("the launcher `ray` needs Ray: pip install 'infaas[ray]'")
    async with aclosing(RayLauncher(read_settings(RaySettings), settings.home)) as launcher:
        yield launcher


async def _start_driver() -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "autoscaler.launchers.ray.driver"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_REPLY,
        preexec_fn=die_with_parent(SIGKILL),
    )


async def _exchange(driver: Process, request: DriverRequest, limit_s: float) -> DriverReply:
    """Send a request as one line, and read the reply as one.

    Raises:
        OSError, EOFError: the driver died, or did not answer in time.
    """
    assert driver.stdin is not None
    assert driver.stdout is not None
    async with asyncio.timeout(limit_s):
        driver.stdin.write(msgspec.json.encode(request) + b"\n")
        await driver.stdin.drain()
        line = await driver.stdout.readline()
    if not line:
        raise EOFError("the process that speaks to it has died")
    return msgspec.json.decode(line, type=DriverReply)

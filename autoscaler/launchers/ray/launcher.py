"""Workers on a Ray cluster: each is a detached actor with its resources, on any node that has them free.

* A worker that fits on no node stays `starting`. Ray's own autoscaler, if there is one, sees its demand and adds a
  machine. Repeated starts create one actor, because Ray allows an actor's name once.
* The workers of a dead node die with it. Ray notices some seconds later (see docker/README.md); then they are no longer
  listed, and are started elsewhere.
* Ray is called from a child process (`driver`) for three reasons. Its calls block, and only a process can be killed
  when a call does not return. Ray ends a connected process when the cluster's head is away for a minute (measured with
  2.60). And it takes over the handler of SIGTERM.
* The autoscaler runs on a node of the cluster, which may offer no resources (`ray start --num-cpus=0 --address=...`).

All nodes must reach the model files: INFAAS_ARTIFACTS names a folder that all of them mount.
"""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

import msgspec
from pydantic_settings import BaseSettings, SettingsConfigDict

from autoscaler.launchers.base import LauncherError, WorkerTemplate, read_settings, worker_environment
from autoscaler.launchers.launched_worker import LaunchedWorker
from process.module_names import module_name
from process.parent_death import die_with_parent
from schemas.errors import OperatorError
from schemas.hardware import Hardware

if TYPE_CHECKING:
    from autoscaler.settings import AutoscalerSettings  # the driver process imports this file, too

_CONNECT_S: Final = 30.0
"""Timeout of connecting: importing Ray takes a second of CPU, and finding the head takes longer."""
_CALL_S: Final = 10.0
_LONGEST_REPLY: Final = 16 * 1024 * 1024


class RaySettings(BaseSettings):
    """Settings of the launcher, read from the environment: `INFAAS_RAY_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_RAY_", frozen=True, extra="ignore")

    address: str = "auto"
    """Address of the cluster's head, `host:port`; `auto` is the cluster that this machine is a node of."""
    namespace: str = "infaas"
    """Namespace of the actors; each system on a cluster needs its own."""
    hardware: dict[Hardware, WorkerTemplate]
    """Sizes of workers by hardware, as JSON: see `autoscaler.launchers.base.WorkerTemplate`."""
    devices: dict[Hardware, dict[str, float]] = {Hardware.CUDA: {"GPU": 1}, Hardware.NEURON: {"neuron": 1}}
    """Ray resources of a worker besides cores and memory. Use `{"neuron_cores": 4}` where one node has several chips:
    then Ray assigns distinct chips instead of only counting them.
    """


class ConnectRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to join the cluster as a driver."""

    address: str
    namespace: str


class ListRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to list the workers."""


class StartRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to start a worker where these resources are free."""

    worker: str
    environment: Mapping[str, str]
    log: str
    cores: int
    memory_bytes: int
    devices: Mapping[str, float]


class StopRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to drain and stop a worker."""

    worker: str


DriverRequest = ConnectRequest | ListRequest | StartRequest | StopRequest


class DriverReply(msgspec.Struct, frozen=True):
    """Reply to a request."""

    launched: list[LaunchedWorker] = []
    """Workers, in the reply to a list request."""
    error: str = ""
    """Error of Ray; empty if the request succeeded."""


class RayLauncher:
    """Launcher of Ray actors. Closing it ends the driver process; the workers stay."""

    def __init__(self, settings: RaySettings, home: Path) -> None:
        self.hardware = {
            hardware.value: template.hardware_type(hardware) for hardware, template in settings.hardware.items()
        }
        self._settings = settings
        self._home = home.absolute()
        self._driver: Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def running(self) -> list[LaunchedWorker]:
        """List all workers of the namespace, no matter which process started them."""
        return (await self._ask(ListRequest())).launched

    async def start(self, hardware: str, worker: str) -> None:
        """Create the worker's actor unless it exists; a failed one is replaced."""
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
        """Drain the worker and end its actor; an actor that has no node yet is killed."""
        await self._ask(StopRequest(worker))

    async def aclose(self) -> None:
        """End the driver process."""
        driver, self._driver = self._driver, None
        if driver is not None:
            if driver.returncode is None:
                driver.kill()
            await driver.wait()

    async def _ask(self, request: DriverRequest) -> DriverReply:
        """Send a request to the driver.

        A driver that does not answer in time is killed, and the next request starts another.

        Raises:
            LauncherError: Ray refused the request, or cannot be reached.
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
            except BaseException:  # cancelled: a later reply must not be read as the answer to the next request
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
async def open_launcher(settings: "AutoscalerSettings") -> AsyncGenerator[RayLauncher]:
    """Open the launcher for the duration of the context.

    Raises:
        OperatorError: Ray is not installed, or a setting is wrong.
    """
    if find_spec("ray") is None:
        raise OperatorError("the launcher `ray` needs Ray: pip install 'infaas[ray]'")
    async with aclosing(RayLauncher(read_settings(RaySettings), settings.home)) as launcher:
        yield launcher


async def _start_driver() -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module_name("autoscaler.launchers.ray.driver")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_REPLY,
        preexec_fn=die_with_parent(SIGKILL),
    )


async def _exchange(driver: Process, request: DriverRequest, limit_s: float) -> DriverReply:
    """Write a request as one line, and read the reply as one line.

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
        raise EOFError("the driver process has died")
    return msgspec.json.decode(line, type=DriverReply)

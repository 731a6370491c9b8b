"""Ray actor that runs one worker's process on a node of the cluster.

* The worker is a child process, because it has its own event loop, signals and crashes. It dies with the actor, and the
  actor with its raylet. By default Ray keeps an actor alive when only the raylet dies; but the cluster then treats the
  node as dead, and another worker of that name is started elsewhere.
* A worker that crashes after a while, hangs, or asks for a replacement is restarted here at once. A crash soon after
  the start would repeat itself: the worker is then failed, with the end of its log as reason.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ray.actor import exit_actor

from autoscaler.launchers.launched_worker import LaunchState
from process.health import wait_until_hung
from process.module_names import module_name
from process.run import EXIT_REPLACE
from process.settings import ServiceSettings
from process.sockets import LOOPBACK, free_port
from process.subprocesses import log_tail, running
from schemas.errors import OperatorError

SETTLED_S: Final = 30.0
"""Seconds of running after which a crash is not a setup error."""


class RayWorker:
    """Actor that runs `python -m workers` until it is stopped. Its methods run on the actor's event loop."""

    def __init__(self, environment: Mapping[str, str], log: str) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(os.pidfd_open(os.getppid()), os._exit, 1)  # the parent is the raylet: end with it
        self._environment = {**os.environ, **environment, "INFAAS_METRICS_HOST": LOOPBACK}
        self._hang_s = ServiceSettings.model_validate(environment).hang_s
        self._log = Path(log)
        self._state = LaunchState.STARTING
        self._reason = ""
        self._stopping = asyncio.Event()
        self._life = loop.create_task(self._live())

    async def state(self) -> tuple[str, str]:
        """Return the state of the worker, and the reason of a failure."""
        return self._state, self._reason

    async def stop(self) -> None:
        """Drain and stop the worker, killing it after a timeout; then end the actor."""
        self._state = LaunchState.STOPPING
        self._stopping.set()
        await self._life
        exit_actor()

    async def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                began_s = time.monotonic()
                replaceable = await self._run()
                settled = replaceable or time.monotonic() - began_s >= SETTLED_S
                if not settled and not self._stopping.is_set():
                    self._state, self._reason = LaunchState.FAILED, log_tail(self._log)
                    return
        except (OperatorError, OSError) as error:
            self._state, self._reason = LaunchState.FAILED, str(error)

    async def _run(self) -> bool:
        """Run the process until it ends or is stopped.

        Returns:
            True if it hung or asked for a replacement, so that another process can continue.
        """
        command, port = [sys.executable, "-m", module_name("workers")], free_port()
        environment = {**self._environment, "INFAAS_WORKERS_METRICS_PORT": str(port)}
        async with running(command, self._log, env=environment) as process, asyncio.TaskGroup() as tasks:
            self._state = LaunchState.RUNNING
            ends = [tasks.create_task(process.wait()), tasks.create_task(self._stopping.wait())]
            watching = tasks.create_task(_kill_when_hung(process, port, self._hang_s))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            hung = watching.done()
            for task in (*ends, watching):
                task.cancel()
        return hung or process.returncode == EXIT_REPLACE


async def _kill_when_hung(process: asyncio.subprocess.Process, port: int, hang_s: float) -> None:
    await wait_until_hung(f"http://{LOOPBACK}:{port}/health/live", hang_s)
    if process.returncode is None:
        process.kill()

"""A worker's process on the node that Ray chose for it: this object is the actor.

* The worker is a child process, since it has an event loop, signals and crashes of its own. It dies with the actor, and
  the actor with its raylet: Ray itself lets an actor live on where only the raylet died, while the cluster takes the
  node for dead and another worker of that name is started elsewhere.
* A worker that crashes after a while is started again here, at once; so is one that hangs, or asks to be replaced. One
  that crashes soon after its start would again: it has failed, and whoever asks is told the end of its log.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ray.actor import exit_actor

from autoscaler.launchers.base import LaunchState
from process.liveness import wait_until_hung
from process.ports import LOOPBACK, free_port
from process.run import EXIT_REPLACE
from process.settings import ServiceSettings
from process.subprocesses import log_tail, running
from schemas.errors import OperatorError

SETTLED_S: Final = 30.0
"""Seconds of life after which a worker is known to be set up right."""


class RayWorker:
    """Actor that runs `python -m workers` until it is stopped. Its methods run on the actor's event loop."""

    def __init__(self, environment: Mapping[str, str], log: str) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(os.pidfd_open(os.getppid()), os._exit, 1)  # our parent is the raylet
        self._environment = {**os.environ, **environment, "INFAAS_METRICS_HOST": LOOPBACK}
        self._hang_s = ServiceSettings.model_validate(environment).hang_s
        self._log = Path(log)
        self._state = LaunchState.STARTING
        self._reason = ""
        self._stopping = asyncio.Event()
        self._life = loop.create_task(self._live())

    async def state(self) -> tuple[str, str]:
        """State of the worker, and why it failed."""
        return self._state, self._reason

    async def stop(self) -> None:
        """Have the worker drain and leave; then the actor leaves, too. It is killed if that takes too long."""
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
        """Run the process until it ends, or until it is to stop and has been stopped.

        Returns:
            Whether it began well, and another in its place could go on.
        """
        command, port = [sys.executable, "-m", "workers"], free_port()
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

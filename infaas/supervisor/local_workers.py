"""The worker processes of this machine: kept running by us, started and stopped as somebody else says.

The first ones start with the system. From then on the autoscaler decides, through `process.supervisor_socket`, so they
are our children, not its: an autoscaler that is killed takes none of them along, and its successor finds them all.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from infaas.supervisor.child import Child, child_spec
from infaas.supervisor.options import UpOptions, worker_metrics_port
from process.ports import LOOPBACK
from process.supervisor_socket import CommandReply, ProcessStatus, SupervisorCommand, command_server
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.worker_names import number_of, worker_name

_NAME: Final = re.compile(rf"{Hardware.CPU}-\d{{1,4}}")
_START_S: Final = 3.0
"""Assumed until the first start has been measured."""


class _Member:
    """One worker process."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.ready = False
        self.stopping = False
        self.failure = ""
        """Why it is not kept any more."""
        self.settled = asyncio.Event()
        """Set when it is ready, or has failed."""
        self.life: asyncio.Task[None]

    def state(self, name: str) -> ProcessStatus:
        failure = self.failure or self.child.failure
        if self.stopping:
            return ProcessStatus(name=name, state="stopping")
        if failure:
            return ProcessStatus(name=name, state="failed", reason=failure)
        return ProcessStatus(name=name, state="running" if self.ready else "starting")


class LocalWorkers:
    """All workers that we keep; `tell` and `changed` as a child's."""

    def __init__(
        self, options: UpOptions, shared: Mapping[str, str], tell: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._options = options
        self._shared = shared
        self._tell = tell
        self._changed = changed
        self._members: dict[str, _Member] = {}
        self._start_s = _START_S
        self._closing = False
        self._tasks: asyncio.TaskGroup

    @property
    def children(self) -> Iterable[Child]:
        """All that are there now."""
        return [member.child for member in self._members.values()]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep workers while the context is open, and follow orders; then stop them all."""
        async with asyncio.TaskGroup() as self._tasks, command_server(self._options.home, self._answer):
            for number in range(self._options.first_workers):
                self._start(worker_name(Hardware.CPU, number))
            try:
                yield
            finally:
                self.retire()
                for name in list(self._members):
                    self._stop(name)

    async def wait_ready(self) -> None:
        """Wait until those are ready that start with the system.

        Raises:
            OperatorError: one of them does not start; the message quotes its log.
        """
        for member in list(self._members.values()):
            await member.settled.wait()
            if member.failure:
                raise OperatorError(member.failure)

    def retire(self) -> None:
        """Start none any more, neither a new one nor one that ends."""
        self._closing = True
        for member in self._members.values():
            member.child.retire()

    # -- orders --------------------------------------------------------------------------------------------------------

    def _answer(self, order: SupervisorCommand) -> CommandReply:
        error = self._follow(order)
        return CommandReply(
            error=error,
            processes=tuple(member.state(name) for name, member in self._members.items()),
            hardware=Hardware.CPU,
            maximum=self._options.most_workers,
            cores=self._options.cores,
            memory_bytes=self._options.memory_bytes,
            start_s=self._start_s,
        )

    def _follow(self, order: SupervisorCommand) -> str:
        """Do it, or say why not."""
        if order.verb == "stop":
            self._stop(order.name)
        elif order.verb == "start":
            member = self._members.get(order.name)
            if self._closing:
                return "the system is stopping"
            if not _NAME.fullmatch(order.name):
                return f"a worker of this machine is named {Hardware.CPU}-<number>, not {order.name!r}"
            if member is not None and not member.failure:
                return f"{order.name} is still stopping" if member.stopping else ""
            if member is None and len(self._members) >= self._options.most_workers:
                return f"{len(self._members)} workers run already; --max-workers allows no more"
            try:
                self._start(order.name)
            except OperatorError as error:
                return str(error)
        return ""

    def _start(self, name: str) -> None:
        port = worker_metrics_port(self._options, number_of(name))
        own = {
            "INFAAS_WORKERS_NAME": name,
            "INFAAS_WORKERS_CORES": str(self._options.cores),
            "INFAAS_WORKERS_MEMORY_BYTES": str(self._options.memory_bytes),
            "INFAAS_WORKERS_METRICS_PORT": str(port),
        }
        url = f"http://{LOOPBACK}:{port}"
        spec = child_spec(
            self._options.home, f"worker-{name}", "workers", {**self._shared, **own}, url, "/health/ready"
        )
        self._members[name] = member = _Member(Child(spec, self._tell, self._changed))
        member.life = self._tasks.create_task(self._keep(name, member), name=spec.name)

    def _stop(self, name: str) -> None:
        member = self._members.get(name)
        if member is not None and member.failure:
            del self._members[name]
        elif member is not None and not member.stopping:
            member.stopping = True
            member.child.retire()
            member.life.cancel()

    # -- one life ------------------------------------------------------------------------------------------------------

    async def _keep(self, name: str, member: _Member) -> None:
        watching = self._tasks.create_task(self._watch(member), name=f"ready {name}")
        try:
            await member.child.keep()
        except OperatorError as error:  # it never starts: stays listed with its reason, for who asked for it
            member.failure = str(error)
            self._tell(f"worker {name} is given up: {error}")
        finally:
            watching.cancel()
            member.settled.set()
            if not member.failure:
                del self._members[name]
            self._changed()

    async def _watch(self, member: _Member) -> None:
        began = time.monotonic()
        await member.child.wait_ready()
        member.ready = True
        self._start_s = time.monotonic() - began
        member.settled.set()

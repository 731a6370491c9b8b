"""Worker processes of this machine. The supervisor runs them; the autoscaler decides which ones.

The first workers start with the system. Later the autoscaler starts and stops workers through
`process.supervisor_socket`. The processes are children of the supervisor. They survive a crash of the autoscaler, and
its successor finds them all.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from infaas.supervisor.child import Child, child_spec
from infaas.supervisor.local_worker import LocalWorkerSpec, name_workers
from infaas.supervisor.metrics_ports import MetricsPorts
from infaas.supervisor.options import UpOptions, name_prefix
from process.ports import LOOPBACK
from process.supervisor_socket import CommandReply, ProcessPool, ProcessStatus, SupervisorCommand, command_server
from schemas.errors import OperatorError

_NAMES_SHOWN: Final = 20
_START_S: Final = 3.0
"""Assumed start time of a worker, until the first start has been measured."""


class _WorkerProcess:
    """A supervised worker process and its state."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.stopping = False
        self.failure = ""
        """Reason why the process is no longer restarted; empty while it is."""
        self.settled = asyncio.Event()
        """Set when the worker is ready or has failed."""
        self.task: asyncio.Task[None]
        """Task that keeps the process running."""

    def status(self, name: str) -> ProcessStatus:
        failure = self.failure or self.child.failure
        if self.stopping:
            return ProcessStatus(name=name, state="stopping")
        if failure:
            return ProcessStatus(name=name, state="failed", reason=failure)
        return ProcessStatus(name=name, state="running" if self.child.is_ready else "starting")


class LocalWorkers:
    """All workers of this machine.

    Args:
        options: options of `infaas up`.
        specs: workers that may run, the first ones first.
        ports: metrics ports.
        shared: environment variables of all workers.
        announce: receives a line for the operator when a worker ends.
        changed: called when a worker starts or ends.
        servers_up: returns when Kafka and Postgres run.
    """

    def __init__(
        self,
        options: UpOptions,
        specs: Sequence[LocalWorkerSpec],
        ports: MetricsPorts,
        shared: Mapping[str, str],
        announce: Callable[[str], None],
        changed: Callable[[], None],
        servers_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._options = options
        self._prefix = name_prefix(options)
        self._specs = name_workers(specs, self._prefix)
        self._ports = ports
        self._shared = shared
        self._announce = announce
        self._changed = changed
        self._servers_up = servers_up
        self._workers: dict[str, _WorkerProcess] = {}
        self._start_s = _START_S
        self._closing = False
        self._tasks: asyncio.TaskGroup

    @property
    def children(self) -> Iterable[Child]:
        """Supervised processes."""
        return [worker.child for worker in self._workers.values()]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the workers and follow commands while the context is open; stop all workers on exit."""
        async with asyncio.TaskGroup() as self._tasks, command_server(self._options.home, self._answer):
            for name in islice(self._specs, self._options.first_workers):
                self._start(name)
            try:
                yield
            finally:
                self.retire()
                for name in list(self._workers):
                    self._stop(name)

    async def wait_ready(self) -> None:
        """Wait until the first workers are ready.

        Raises:
            OperatorError: a worker does not start; the message quotes its log.
        """
        for worker in list(self._workers.values()):
            await worker.settled.wait()
            if worker.failure:
                raise OperatorError(worker.failure)

    def retire(self) -> None:
        """Stop starting and restarting workers."""
        self._closing = True
        for worker in self._workers.values():
            worker.child.retire()

    # -- commands ------------------------------------------------------------------------------------------------------

    def _answer(self, command: SupervisorCommand) -> CommandReply:
        error = self._execute(command)
        return CommandReply(
            error=error,
            processes=tuple(worker.status(name) for name, worker in self._workers.items()),
            pools=tuple(self._pool(hardware) for hardware in {spec.hardware: None for spec in self._specs.values()}),
            start_s=self._start_s,
            prefix=self._prefix,
        )

    def _pool(self, hardware: str) -> ProcessPool:
        """Return the pool of a hardware type; `cores` and `memory_bytes` are the minimum over its workers."""
        specs = [spec for spec in self._specs.values() if spec.hardware == hardware]
        return ProcessPool(
            hardware=hardware,
            maximum=len(specs),
            cores=min(spec.cores for spec in specs),
            memory_bytes=min(spec.memory_bytes for spec in specs),
        )

    def _execute(self, command: SupervisorCommand) -> str:
        """Carry out a command; returns the reason why it failed, or an empty text."""
        if command.verb == "stop":
            self._stop(command.name)
        elif command.verb == "start":
            worker = self._workers.get(command.name)
            if self._closing:
                return "the system is stopping"
            if command.name not in self._specs:
                there = ", ".join(islice(self._specs, _NAMES_SHOWN))
                return f"{command.name!r} is not a worker of this machine; --max-workers or --worker allow {there}"
            if worker is not None and not worker.failure:
                return f"{command.name} is still stopping" if worker.stopping else ""
            try:
                self._start(command.name)
            except OperatorError as error:
                return str(error)
        return ""

    def _start(self, name: str) -> None:
        port = self._ports.find("workers", list(self._specs).index(name))
        own = {
            "INFAAS_WORKERS_NAME": name,
            "INFAAS_WORKERS_METRICS_PORT": str(port),
            **self._specs[name].environment,
        }
        url = f"http://{LOOPBACK}:{port}"
        spec = child_spec(self._options.home, f"worker-{name}", "workers", {**self._shared, **own}, url)
        self._workers[name] = worker = _WorkerProcess(Child(spec, self._announce, self._changed, self._servers_up))
        worker.task = self._tasks.create_task(self._keep_running(name, worker), name=spec.name)

    def _stop(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None and worker.failure:
            del self._workers[name]
        elif worker is not None and not worker.stopping:
            worker.stopping = True
            worker.child.retire()
            worker.task.cancel()

    # -- one worker ----------------------------------------------------------------------------------------------------

    async def _keep_running(self, name: str, worker: _WorkerProcess) -> None:
        watching = self._tasks.create_task(self._note_ready(worker), name=f"ready {name}")
        try:
            await worker.child.keep_running()
        except OperatorError as error:  # the worker stays listed, with its reason
            worker.failure = str(error)
            self._announce(f"worker {name} is not restarted any more: {error}")
        finally:
            watching.cancel()
            worker.settled.set()
            if not worker.failure:
                del self._workers[name]
            self._changed()

    async def _note_ready(self, worker: _WorkerProcess) -> None:
        began = time.monotonic()
        await worker.child.wait_ready()
        self._start_s = time.monotonic() - began
        worker.settled.set()

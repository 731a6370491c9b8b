"""Worker processes of this machine. The supervisor runs them; the autoscaler decides which ones.

The first workers start with the system. Later the autoscaler starts and stops workers through
`process.home`. The processes are children of the supervisor. They survive a crash of the autoscaler, and
its successor finds them all.

`infaas up --worker TYPE:NUMBER` names workers: `cpu:2` is a worker with two cores of its own, `cuda:0` a worker that
owns the first GPU, `neuron:1` a worker that owns the second Inferentia chip. Devices and runtimes are checked before
anything starts.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import msgspec

from infaas.up.metrics_ports import MetricsPorts
from infaas.up.options import LOCAL_LAUNCHERS, UpOptions, name_prefix
from infaas.up.processes import Child, child_spec
from process.cpus import usable_cores, usable_cpus
from process.home import CommandReply, ProcessPool, ProcessStatus, SupervisorCommand, command_server
from process.memory import total_memory
from process.sockets import LOOPBACK
from runtimes.catalog import all_runtimes
from runtimes.device import device_count, device_memory, missing_device
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.names import worker_name

_WORKER: Final = re.compile(r"([a-z]+)(?::(\d{1,4}))?")
_EXAMPLES: Final = "cpu:2 (two cores), cuda:0 (the first GPU) or neuron:0 (the first Inferentia chip)"


class LocalWorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Device, cores and memory of one worker process."""

    hardware: Hardware = Hardware.CPU
    device: int | None = None
    """Index of the accelerator; None for a CPU."""
    cores: int = 1
    cpus: tuple[int, ...] = ()
    """Indexes of the cores that are reserved for the worker; empty: any core of the machine."""
    memory_bytes: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of the worker process, as environment variables."""
        found = {
            "INFAAS_WORKERS_HARDWARE": self.hardware.value,
            "INFAAS_WORKERS_CORES": str(self.cores),
            "INFAAS_WORKERS_MEMORY_BYTES": str(self.memory_bytes),
        }
        if self.device is not None:
            found["INFAAS_WORKERS_DEVICE"] = str(self.device)
        if self.cpus:
            found["INFAAS_WORKERS_CPUS"] = msgspec.json.encode(self.cpus).decode()
        return found


def name_workers(specs: Sequence[LocalWorkerSpec], prefix: str) -> dict[str, LocalWorkerSpec]:
    """Return the workers by name: `prefix`, hardware and a number per hardware type, in order."""
    counts = Counter[str]()
    named: dict[str, LocalWorkerSpec] = {}
    for spec in specs:
        named[worker_name(spec.hardware, counts[spec.hardware], prefix)] = spec
        counts[spec.hardware] += 1
    return named


def local_workers(options: UpOptions) -> tuple[LocalWorkerSpec, ...]:
    """Return all workers that may run on this machine, the first ones first. Blocks.

    Raises:
        OperatorError: there are too few cores, or a device is missing.
    """
    if options.named_workers:
        _check_worker_alone(options)
        return parse_workers(options.named_workers, oversubscribe=options.oversubscribe)
    check_cores(options)
    return (LocalWorkerSpec(cores=options.cores, memory_bytes=options.memory_bytes),) * options.most_workers


def check_cores(options: UpOptions) -> None:
    """Check that the machine has enough cores for the workers.

    Raises:
        OperatorError: the workers need more cores than the machine has.
    """
    maximum, each, there = options.most_workers, options.cores, usable_cores()
    if maximum * each > there and options.first_workers and not options.oversubscribe:
        raise OperatorError(
            f"{maximum} workers with {each} cores each need {maximum * each} cores, this machine has {there}: "
            "lower --workers, --max-workers or --cores-per-worker, or allow it by --oversubscribe"
        )


def _check_worker_alone(options: UpOptions) -> None:
    if options.launcher not in LOCAL_LAUNCHERS:
        raise OperatorError(
            f"--worker names workers of this machine; --launcher {options.launcher} starts them elsewhere"
        )
    if options.workers > 1 or options.max_workers or options.cores_per_worker:
        raise OperatorError("--worker cannot be combined with --workers, --max-workers and --cores-per-worker")


def parse_workers(wanted: Sequence[str], *, oversubscribe: bool = False) -> tuple[LocalWorkerSpec, ...]:
    """Divide the cores and memory of this machine among the named workers, for example `cpu:2` and `cuda:0`.

    Raises:
        OperatorError: a name is invalid or repeated, its device or a runtime for it is missing, or there are too few
            cores.
    """
    parsed = [_parse(text) for text in wanted]
    for text, times in Counter(wanted).items():
        if times > 1 and not text.startswith(Hardware.CPU):
            raise OperatorError(f"--worker {text} is named {times} times: a device belongs to one worker")
    free, cores = usable_cpus(), usable_cores()
    needed = sum(number for hardware, number in parsed if hardware is Hardware.CPU)
    if needed > cores and not oversubscribe:
        raise OperatorError(
            f"the CPU workers need {needed} cores, this machine has {cores}: name fewer, or allow it by --oversubscribe"
        )
    memory_bytes = total_memory() // max(sum(h is Hardware.CPU for h, _ in parsed), 1)
    found: list[LocalWorkerSpec] = []
    for hardware, number in parsed:
        if hardware is Hardware.CPU:
            own, free = (free[:number], free[number:]) if needed <= len(free) else ([], free)
            needed -= len(own)
            found.append(LocalWorkerSpec(cores=number, cpus=tuple(own), memory_bytes=memory_bytes))
        else:
            check_device(hardware, number)
            found.append(
                LocalWorkerSpec(hardware=hardware, device=number, memory_bytes=device_memory(hardware, number))
            )
    return tuple(found)


def check_device(hardware: Hardware, number: int) -> None:
    """Check that a device exists on this machine, with a runtime that supports it.

    Raises:
        OperatorError: the device or the runtime is missing; the message names it.
    """
    what, reason = f"--worker {hardware}:{number}", missing_device(hardware)
    if reason:
        raise OperatorError(f"{what}: {reason}")
    count = device_count(hardware)
    if number >= count:
        raise OperatorError(f"{what}: this machine has {count} of them, numbered from 0")
    found = [runtime.availability(hardware) for runtime in all_runtimes() if hardware in runtime.hardware]
    if not any(available.available for available in found):
        reasons = dict.fromkeys(available.reason for available in found)
        raise OperatorError(f"{what}: no installed runtime supports it: {'; '.join(reasons)}")


def _parse(text: str) -> tuple[Hardware, int]:
    match = _WORKER.fullmatch(text)
    if match is None or match[1] not in Hardware.__members__.values():
        raise OperatorError(f"--worker {text!r} is not a worker: write {_EXAMPLES}")
    hardware = Hardware(match[1])
    if match[2] is None and hardware is Hardware.CPU:
        raise OperatorError(f"--worker {text}: add the number of cores, e.g. cpu:2")
    number = int(match[2] or 0)
    if hardware is Hardware.CPU and number < 1:
        raise OperatorError(f"--worker {text}: a CPU worker has at least one core")
    return hardware, number


_NAMES_SHOWN: Final = 20
_START_S: Final = 3.0
"""Assumed start time of a worker, until the first start has been measured."""


class _WorkerProcess:
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
        own = {"INFAAS_WORKERS_NAME": name, "INFAAS_WORKERS_METRICS_PORT": str(port), **self._specs[name].environment}
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

"""Composition of a whole system on one machine: starts servers, schema, topics and services, and stops them in order.

Kafka and Postgres run as child processes, which are restarted when they end. INFAAS_KAFKA and INFAAS_POSTGRES name
external ones instead. Each service is a separate process (`python -m selector`), configured by environment variables
only, with a log under `<home>/logs`, and restarted when it ends. Services stop in the order of `STOP_ORDER`: the
services that accept queries first, and the services that others depend on last. If the supervisor is killed, the kernel
kills its children. The autoscaler starts and stops workers; see `local_workers.py`.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from broker.kafka.settings import ENV as KAFKA_ENV
from broker.kafka.settings import PREFIX as KAFKA_PREFIX
from broker.kafka.settings import KafkaSettings
from infaas.up.kafka_server import FETCH_WAIT_ENV, FetchingJars, KafkaChoice, choose_kafka, start_kafka
from infaas.up.local_workers import LocalWorkers, LocalWorkerSpec, local_workers
from infaas.up.metrics_ports import MetricsPorts
from infaas.up.options import UpOptions, check_gateway, claim_ports, name_prefix
from infaas.up.processes import Child, ChildSpec, Server, child_spec
from infaas.up.state import KafkaKind, StateFile, SystemState, claimed
from process.sandbox import has_sandbox, missing_sandbox
from process.sockets import LOOPBACK, address_text
from process.subprocesses import DRAIN_S
from registry.system_identity import join_system
from registry.topics import ensure_registered_topics
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.topics import NAMESPACE_ENV
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import open_pool

READY_S: Final = 60.0
STOP_ORDER: Final = ("gateway", "gateway.jobs", "registry.service", "selector", "autoscaler")
"""Modules in the order in which their services stop. The workers stop last, after they have drained."""
_MODULES: Final = {"jobs": "gateway.jobs", "registrar": "registry.service"}
"""Modules that have another name than their service."""

Announce = Callable[[str], None]
"""Receives a line of text for the operator."""


class RunningSystem:
    """A system whose servers run: its addresses and its supervised services."""

    def __init__(
        self,
        options: UpOptions,
        workers: Sequence[LocalWorkerSpec],
        choice: KafkaChoice,
        kafka: KafkaSettings,
        postgres: str,
        servers: Sequence[Server],
        ports: MetricsPorts,
        announce: Announce,
    ) -> None:
        self.options = options
        self.kafka = kafka
        self._choice = choice
        self.postgres = postgres
        self.gateway = options.gateway_url
        self._ready = False
        self._servers = servers
        for server in servers:
            server.changed = self._publish
            if choice.kind is KafkaKind.EMBEDDED and server.name == "kafka":
                server.restore = self._restore_embedded
        self._state_file = StateFile(options.home, lambda: self.state)
        shared = self._environment()
        specs = _services(options, workers, ports, shared)
        self._children = [Child(spec, announce, self._publish, self._servers_up) for spec in specs]
        self._workers = LocalWorkers(options, workers, ports, shared, announce, self._publish, self._servers_up)

    @property
    def state(self) -> SystemState:
        """State of the system, as written to the state file."""
        return SystemState(
            pid=os.getpid(),
            ready=self._ready,
            gateway=self.gateway,
            grpc=""
            if self.options.grpc_port is None
            else address_text(self.options.gateway_host, self.options.grpc_port),
            kafka=self.kafka.bootstrap,
            kafka_kind=self._choice.kind,
            kafka_login=self.kafka.login,
            namespace=self.kafka.namespace,
            kafka_reason=self._choice.reason,
            fetch_max_wait_ms=self.kafka.fetch_max_wait_ms,
            postgres=self.postgres,
            servers={server.name: server.state for server in self._servers},
            services={child.spec.name: child.state for child in [*self._children, *self._workers.children]},
            sandbox_missing=missing_sandbox(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the services while the context is open; it is entered when all are ready."""
        async with self._workers.running(), asyncio.TaskGroup() as tasks:
            kept = [tasks.create_task(server.keep_running(), name=server.name) for server in self._servers]
            running = {child: tasks.create_task(child.keep_running(), name=child.spec.name) for child in self._children}
            try:
                await self._wait_ready()
                yield
            finally:
                self._state_file.close()
                for task in kept:  # systemd may have stopped the servers, too; they must not be restarted
                    task.cancel()
                self._workers.retire()
                for child in running:
                    child.retire()
                for module in STOP_ORDER:
                    await _stop([task for child, task in running.items() if child.spec.module == module])

    async def _servers_up(self) -> None:
        for server in self._servers:
            await server.wait_up()

    async def _restore_embedded(self) -> None:
        """Create the topics again and restart all services, which hold offsets of the lost log."""
        async with open_pool(self.postgres, max_size=1) as pool:
            await join_system(pool, self.kafka)
            await ensure_registered_topics(pool, self.kafka)
        for child in [*self._children, *self._workers.children]:
            child.replace()

    async def _wait_ready(self) -> None:
        late = {child.spec.name for child in self._children} | {"workers"}

        async def wait(name: str, ready: Awaitable[None]) -> None:
            await ready
            late.discard(name)

        try:
            async with asyncio.timeout(READY_S), asyncio.TaskGroup() as tasks:
                tasks.create_task(wait("workers", self._workers.wait_ready()))
                for child in self._children:
                    tasks.create_task(wait(child.spec.name, child.wait_ready()))
        except TimeoutError:
            logs = self.options.home / "logs"
            raise OperatorError(f"not ready within {READY_S:g} s: {', '.join(sorted(late))}; see {logs}") from None
        self._ready = True
        self._publish()

    def _publish(self) -> None:
        self._state_file.write()

    def _environment(self) -> dict[str, str]:
        return {
            "INFAAS_HOME": str(self.options.home),
            KAFKA_ENV: self.kafka.bootstrap,
            **{f"{KAFKA_PREFIX}{name.upper()}": value for name, value in self.kafka.login.items()},
            NAMESPACE_ENV: self.kafka.namespace,
            FETCH_WAIT_ENV: str(self.kafka.fetch_max_wait_ms),
            "INFAAS_POSTGRES": self.postgres,
            "INFAAS_DRAIN_TIMEOUT_S": f"{DRAIN_S:g}",
        }


@asynccontextmanager
async def running_system(
    options: UpOptions, announce: Announce, fetching: FetchingJars
) -> AsyncGenerator[RunningSystem]:
    """Start the whole system; the context is entered when all is ready, and leaving it stops everything.

    Args:
        options: Options of `infaas up`.
        announce: Receives a line for the operator at each step and whenever a service ends.
        fetching: Factory of the progress display for the download of Kafka's jars.

    Raises:
        OperatorError: a port is taken, something is missing or does not start; everything started so far is stopped.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(options.home))
        workers = await asyncio.to_thread(local_workers, options)
        await asyncio.to_thread(check_gateway, options)
        options = claim_ports(options)
        ports = stack.enter_context(MetricsPorts(options))
        ports.check()
        choice = await choose_kafka(options, announce, fetching)
        await asyncio.to_thread(has_sandbox)  # logs a warning if the sandbox is missing
        announce("starting Postgres")
        postgres, database = await _postgres(options, announce, stack)
        announce(f"starting Kafka ({choice.kind})")
        kafka, broker = await start_kafka(choice, options, announce, stack)
        announce("updating the tables and topics")
        await upgrade(postgres)
        async with open_pool(postgres, max_size=1) as pool:
            await join_system(pool, kafka, take_over=options.take_over)
            await ensure_registered_topics(pool, kafka)
        announce("starting the services")
        servers = [server for server in (broker, database) if server is not None]
        system = RunningSystem(options, workers, choice, kafka, postgres, servers, ports, announce)
        await stack.enter_async_context(system.running())
        yield system
        announce("stopping")


async def _postgres(options: UpOptions, announce: Announce, stack: AsyncExitStack) -> tuple[str, Server | None]:
    if options.postgres is not None:
        return options.postgres, None
    postgres = EmbeddedPostgres(options.home / "postgres", options.postgres_port)
    await stack.enter_async_context(postgres)
    return postgres.dsn, Server("postgres", f"{LOOPBACK}:{postgres.port}", postgres, announce)


def _services(
    options: UpOptions, workers: Sequence[LocalWorkerSpec], ports: MetricsPorts, shared: dict[str, str]
) -> list[ChildSpec]:
    """Return the specs of all services except the workers."""
    minimum = Counter(spec.hardware for spec in workers) if options.named_workers else {Hardware.CPU: options.workers}
    scaling = {
        "INFAAS_AUTOSCALER_LAUNCHER": options.launcher,
        "INFAAS_AUTOSCALER_POLICY": options.policy,
        "INFAAS_AUTOSCALER_MIN_WORKERS": msgspec.json.encode(minimum).decode(),
    }
    gateway = options.gateway_environment
    specs: list[ChildSpec] = []
    others: list[tuple[str, dict[str, str]]] = [("selector", {}), ("jobs", {}), ("registrar", {})]
    for service, own in (("autoscaler", scaling), *others, ("gateway", gateway)):
        for number in range(options.count(service)):
            name, port = _numbered(service, number), ports.find(service, number)
            env = {**shared, **own, f"INFAAS_{service.upper()}_METRICS_PORT": str(port)}
            if service == "selector":
                env["INFAAS_SELECTOR_INSTANCE_ID"] = f"{name_prefix(options)}{name}"
            module = _MODULES.get(service, service)
            specs.append(child_spec(options.home, name, module, env, f"http://{LOOPBACK}:{port}"))
    return specs


def _numbered(name: str, index: int) -> str:
    return name if index == 0 else f"{name}-{index}"


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

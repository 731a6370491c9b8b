"""`infaas up`: start of a whole system on this machine."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.markup import escape
from rich.panel import Panel

from autoscaler.decide.snapshot import Policy
from broker.kafka.servers.jars import JarProgress
from broker.kafka.settings import ENV as KAFKA_ENV
from infaas.cli.connect import DEFAULT_HOME, Home, was_typed
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import ProgressBar, err, show
from infaas.cli.status import places
from infaas.up.metrics_ports import FIRST
from infaas.up.optional_zoo import require_zoo
from infaas.up.options import LOCAL_LAUNCHERS, UpOptions
from infaas.up.ready_tasks import watch_tasks
from infaas.up.state import KafkaKind
from infaas.up.system import RunningSystem, running_system
from process.logs import LogFormat, said_format
from process.sockets import LAST_PORT
from process.tls import TlsFiles
from schemas.defaults import GRPC_PORT
from schemas.errors import OperatorError
from store.settings import ENV as POSTGRES_ENV
from store.settings import has_password

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)  # `up` reports its progress at any log level

_ANY_PORT: Final = "0: any free port."
_MOST_EACH: Final = 64
_MOST_WORKERS: Final = 100_000
_MOST_CORES: Final = 4096

KafkaFlag = Annotated[
    KafkaKind,
    typer.Option(
        "--kafka",
        help=f"Kafka to use; `auto`: {KAFKA_ENV} if set, else Apache Kafka if available, else the embedded broker.",
    ),
]


def _not_for_all_to_see(ctx: typer.Context, dsn: str | None) -> str | None:
    """Refuse a password on the command line, since `ps` shows it to all users of the machine."""
    if dsn and was_typed(ctx, "postgres") and has_password(dsn):
        raise OperatorError(f"--postgres shows the password to every user of this machine: set {POSTGRES_ENV} instead")
    return dsn


_INTERRUPTED: Final = 128 + signal.SIGINT
_DEFAULTS: Final = UpOptions(home=DEFAULT_HOME)


class UpFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of `infaas up`."""

    home: Home = DEFAULT_HOME
    kafka: KafkaFlag = KafkaKind.AUTO
    postgres: Annotated[
        str | None,
        typer.Option(
            envvar=POSTGRES_ENV,
            help="DSN of a running Postgres; default: an embedded one.",
            callback=_not_for_all_to_see,
            show_envvar=True,
        ),
    ] = None
    gateway_host: Annotated[str, typer.Option(envvar="INFAAS_GATEWAY_HOST", help="Listen address of the gateway.")] = (
        _DEFAULTS.gateway_host
    )
    gateway_port: Annotated[int, typer.Option(envvar="INFAAS_GATEWAY_PORT", min=0, max=LAST_PORT, help=_ANY_PORT)] = (
        _DEFAULTS.gateway_port
    )
    grpc_port: Annotated[
        int | None,
        typer.Option(
            envvar="INFAAS_GATEWAY_GRPC_PORT",
            min=0,
            max=LAST_PORT,
            help=f"Port of the gateway's gRPC; {_ANY_PORT} Default: {GRPC_PORT} if free, where gRPC is installed.",
            show_default=False,
        ),
    ] = _DEFAULTS.grpc_port
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="INFAAS_GATEWAY_TLS_CERT", help="Certificate in PEM; the gateway serves HTTPS."),
    ] = None
    tls_key: Annotated[Path | None, typer.Option(envvar="INFAAS_GATEWAY_TLS_KEY", help="Its key in PEM.")] = None
    tls_client_ca: Annotated[
        Path | None, typer.Option(envvar="INFAAS_GATEWAY_TLS_CLIENT_CA", help="Authorities that must certify clients.")
    ] = None
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous",
            envvar="INFAAS_GATEWAY_ALLOW_ANONYMOUS",
            help="Admit anonymous clients although --gateway-host is reachable from other machines.",
        ),
    ] = _DEFAULTS.allow_anonymous
    auth: Annotated[
        bool,
        typer.Option(
            "--auth",
            envvar="INFAAS_GATEWAY_AUTH",
            help="Require a key or token at the gateway, and a password at Kafka.",
        ),
    ] = _DEFAULTS.auth
    console: Annotated[
        bool,
        typer.Option(
            "--console/--no-console", envvar="INFAAS_GATEWAY_CONSOLE", help="Serve the console at the gateway."
        ),
    ] = _DEFAULTS.console
    kafka_port: Annotated[int, typer.Option(envvar="INFAAS_KAFKA_PORT", min=0, max=LAST_PORT, help=_ANY_PORT)] = (
        _DEFAULTS.kafka_port
    )
    postgres_port: Annotated[int, typer.Option(envvar="INFAAS_POSTGRES_PORT", min=0, max=LAST_PORT, help=_ANY_PORT)] = (
        _DEFAULTS.postgres_port
    )
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="INFAAS_METRICS_PORT",
            min=0,
            max=LAST_PORT,
            help="First port for metrics and health; further services use the next ones; 0: any free ports. Default: "
            + ", ".join(f"{service} {port}" for service, port in FIRST.items())
            + " and the next ones.",
        ),
    ] = _DEFAULTS.metrics_port
    gateways: Annotated[int, typer.Option(min=1, max=_MOST_EACH, help="Gateway processes; they share the port.")] = (
        _DEFAULTS.gateways
    )
    selectors: Annotated[int, typer.Option(min=1, max=_MOST_EACH, help="Selector processes.")] = _DEFAULTS.selectors
    workers: Annotated[
        int, typer.Option(min=1, max=_MOST_WORKERS, help="Initial and minimum number of CPU worker processes.")
    ] = _DEFAULTS.workers
    max_workers: Annotated[
        int, typer.Option(min=0, max=_MOST_WORKERS, help="Maximum number of CPU worker processes; 0: as --workers.")
    ] = _DEFAULTS.max_workers
    cores_per_worker: Annotated[
        int, typer.Option(min=0, max=_MOST_CORES, help="Cores of each worker; 0: the machine's cores are shared.")
    ] = _DEFAULTS.cores_per_worker
    worker: Annotated[
        list[str] | None,
        typer.Option(help="A worker on a device: cpu:2 (cores), cuda:0, neuron:0; repeatable. Default: --workers."),
    ] = None
    oversubscribe: Annotated[
        bool, typer.Option("--oversubscribe", help="Allow more worker cores in total than this machine has.")
    ] = _DEFAULTS.oversubscribe
    autoscalers: Annotated[
        int, typer.Option(min=1, max=_MOST_EACH, help="Autoscaler processes; one leads, the others stand by.")
    ] = _DEFAULTS.autoscalers
    jobs: Annotated[
        int, typer.Option(min=0, max=_MOST_EACH, help="Jobs services; 0: jobs wait until there is one.")
    ] = _DEFAULTS.jobs
    registrars: Annotated[
        int,
        typer.Option(min=0, max=_MOST_EACH, help="Registrars; 0: registrations by the admin API wait for one."),
    ] = _DEFAULTS.registrars
    policy: Annotated[Policy, typer.Option(help="Scaling policy.")] = _DEFAULTS.policy
    launcher: Annotated[
        str, typer.Option(help="Launcher of workers: processes (on this machine), none, ray or kubernetes.")
    ] = _DEFAULTS.launcher
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Claim the Kafka topics of a system that lost its Postgres.")
    ] = _DEFAULTS.take_over
    register_zoo: Annotated[bool, typer.Option("--register-zoo", help="Register the demo's models, too.")] = False


@with_options
def up(
    options: RequestOptions[UpFlags],
) -> None:
    """Start everything on this machine and run until Ctrl-C, SIGTERM or `infaas down`."""
    values = msgspec.structs.asdict(options.request())
    home, workers, register_zoo = values.pop("home"), values.pop("worker"), values.pop("register_zoo")
    tls = TlsFiles.given(*(values.pop(name) for name in ("tls_cert", "tls_key", "tls_client_ca")))
    _run(
        UpOptions(home=home.absolute(), tls=tls, named_workers=tuple(workers or ()), **values),
        register_zoo=register_zoo,
    )


def _run(options: UpOptions, *, register_zoo: bool) -> None:
    if register_zoo:
        require_zoo()
    try:
        asyncio.run(_serve(options, register_zoo=register_zoo))
    except asyncio.CancelledError:
        raise typer.Exit(_INTERRUPTED) from None


async def _serve(options: UpOptions, *, register_zoo: bool) -> None:
    serving = asyncio.current_task()
    assert serving is not None, "runs as a task"
    _cancel_on_signal(serving)
    async with running_system(options, announce, fetching_jars) as system:
        show(Panel(places(system.state), title="INFaaS is ready", border_style="green", expand=False))
        if register_zoo:
            await _register_zoo(system)
        announce("Ctrl-C or `infaas down` stops it")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            serving.uncancel()  # an orderly stop, not an error


async def _register_zoo(system: RunningSystem) -> None:
    from infaas.cli.register import HERE, USUAL, register_with_progress  # not above: imports all of the registration
    from zoo.samples import ALL_TASKS

    options = system.options
    async with asyncio.TaskGroup() as tasks:
        ready = watch_tasks(system.postgres, ALL_TASKS, lambda task: announce(f"{task} answers from now on"))
        tasks.create_task(ready, name="ready tasks")
        choice = HERE if options.launcher in LOCAL_LAUNCHERS else USUAL  # else its workers run elsewhere
        await register_with_progress(system.kafka, system.postgres, options.home, choice=choice)
    announce("the zoo is registered")


def _cancel_on_signal(serving: asyncio.Task[None]) -> None:
    """Cancel the task on the first signal, even during start-up; exit at once on the second (children then die)."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: int) -> None:
        if signalled.is_set():
            os._exit(128 + number)
        signalled.set()
        serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


def announce(line: str) -> None:
    """Print a timestamped line for the operator on stderr, as JSON if logs are in JSON."""
    if said_format() is LogFormat.JSON:
        log.info("%s", line)
        return
    err.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {escape(line)}", highlight=False)


@contextmanager
def fetching_jars() -> Generator[JarProgress]:
    """Show a progress bar during the download of Kafka's jars; yields its progress callback."""
    with ProgressBar() as bar:
        yield lambda done, total: bar.step(done, total, "Kafka's jars")

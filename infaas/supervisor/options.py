"""What `infaas up` is asked to start, and the ports it will need, checked before anything runs."""

import os
from contextlib import suppress
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.decide.snapshot import Policy
from autoscaler.settings import DEFAULT_POLICY
from broker.settings import ENV as KAFKA_ENV
from gateway.settings import GatewaySettings, require_known_clients
from infaas.supervisor.local_worker import LocalWorkerSpec, parse_workers
from process.command_line import read_command
from process.cpus import usable_cores
from process.home_name import home_name
from process.memory import total_memory
from process.ports import LOOPBACK, address_text, claim_port
from process.tls import ListenerTls, TlsFiles
from schemas.defaults import GATEWAY_PORT, GRPC_PORT, KAFKA_PORT
from schemas.errors import OperatorError

POSTGRES_ENV: Final = "INFAAS_POSTGRES"
_LOCAL_LAUNCHERS: Final = ("none", "processes")
"""Names of the launchers beside which `infaas up` runs workers itself."""


_GRPC_PACKAGES: Final = ("grpc", "grpc_health", "grpc_reflection")
"""What the extra `grpc` installs."""


class KafkaKind(StrEnum):
    """Kinds of Kafka that a system can run on."""

    AUTO = "auto"
    """The one of INFAAS_KAFKA where that is set; else Apache Kafka where it can be had; else the embedded broker."""
    APACHE = "apache"
    EMBEDDED = "embedded"
    EXTERNAL = "external"


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `infaas up` starts; a port of 0 is any free one."""

    home: Path
    kafka: KafkaKind = KafkaKind.AUTO
    postgres: str | None = None
    """DSN of a Postgres that somebody else runs; None: we run one."""
    gateway_host: str = LOOPBACK
    gateway_port: int = GATEWAY_PORT
    grpc_port: int | None = None
    """Port of gRPC; None: the usual one where gRPC is installed and nobody else listens there, else none."""
    tls: TlsFiles | None = None
    """What the gateway serves HTTPS with; None: it is HTTP."""
    allow_anonymous: bool = False
    """Whether anyone who reaches `gateway_host` beyond this machine may ask."""
    take_over: bool = False
    """Whether Kafka's topics become this system's where they are of another one, which is lost."""
    auth: bool = False
    """Whether whoever asks a gateway must show a key or a token."""
    kafka_port: int = KAFKA_PORT
    postgres_port: int = 0
    metrics_port: int | None = None
    """Port of the first service, which the others follow; None: as `infaas.supervisor.metrics_ports` has them."""
    gateways: int = 1
    """Gateway processes; several share the port."""
    selectors: int = 1
    autoscalers: int = 1
    """Autoscaler processes: one leads, the others stand by."""
    jobs: int = 1
    """Jobs services; without one jobs are kept, and wait."""
    registrars: int = 1
    """Registrars; without one what is registered through the admin API waits."""
    policy: Policy = DEFAULT_POLICY
    launcher: str = "processes"
    """What starts workers beyond the first ones; a cluster's starts those, too, and none run on this machine."""
    workers: int = 1
    """Worker processes that run from the start, and at least."""
    max_workers: int = 0
    """Worker processes at most; 0: no more than `workers`."""
    cores_per_worker: int = 0
    """CPU cores of each worker; 0 shares those of this machine among the most workers there can be."""
    oversubscribe: bool = False
    """Whether workers may have more cores in all than this machine has."""
    named_workers: tuple[str, ...] = ()
    """Workers by name of their device, e.g. `cuda:0` and `cpu:2`, instead of `workers` alike; these and no others."""

    @property
    def gateway_url(self) -> str:
        """URL at which this machine reaches the gateway."""
        host = LOOPBACK if self.gateway_host in ("", "0.0.0.0", "::") else self.gateway_host
        return f"http{'s' * (self.tls is not None)}://{address_text(host, self.gateway_port)}"

    @property
    def gateway_environment(self) -> dict[str, str]:
        """Settings of each gateway."""
        found = {
            "INFAAS_GATEWAY_HOST": self.gateway_host,
            "INFAAS_GATEWAY_PORT": str(self.gateway_port),
            "INFAAS_GATEWAY_REUSE_PORT": str(self.gateways > 1).lower(),
            "INFAAS_GATEWAY_AUTH": str(self.auth).lower(),
            "INFAAS_GATEWAY_ALLOW_ANONYMOUS": str(self.allow_anonymous).lower(),
        }
        if self.grpc_port is not None:
            found["INFAAS_GATEWAY_GRPC_PORT"] = str(self.grpc_port)
        if self.tls is not None:
            found["INFAAS_GATEWAY_TLS_CERT"] = str(self.tls.certificate.absolute())
            found["INFAAS_GATEWAY_TLS_KEY"] = str(self.tls.key.absolute())
            if self.tls.client_ca is not None:
                found["INFAAS_GATEWAY_TLS_CLIENT_CA"] = str(self.tls.client_ca.absolute())
        return found

    def count(self, module: str) -> int:
        """Number of processes of a service beside the workers."""
        counts = {
            "autoscaler": self.autoscalers, "selector": self.selectors, "gateway": self.gateways, "jobs": self.jobs,
            "registrar": self.registrars,
        }  # fmt: skip
        return counts[module]

    @property
    def first_workers(self) -> int:
        """Number of workers that start here with the system."""
        return len(self.named_workers) or (self.workers if self.launcher in _LOCAL_LAUNCHERS else 0)

    @property
    def most_workers(self) -> int:
        """Number of workers that may run at once."""
        return len(self.named_workers) or max(self.max_workers, self.workers)

    @property
    def cores(self) -> int:
        """CPU cores of each worker."""
        return self.cores_per_worker or max(usable_cores() // self.most_workers, 1)

    @property
    def memory_bytes(self) -> int:
        """Memory that each worker may use."""
        return total_memory() // self.most_workers


def local_workers(options: UpOptions) -> tuple[LocalWorkerSpec, ...]:
    """All workers that may run on this machine, those that start with the system first; blocks.

    Raises:
        OperatorError: they do not fit, or the device of one is not here.
    """
    if options.named_workers:
        _check_worker_alone(options)
        return parse_workers(options.named_workers, oversubscribe=options.oversubscribe)
    check_cores(options)
    return (LocalWorkerSpec(cores=options.cores, memory_bytes=options.memory_bytes),) * options.most_workers


def check_cores(options: UpOptions) -> None:
    """Check that the workers fit on this machine.

    Raises:
        OperatorError: they have more cores in all than there are.
    """
    maximum, each, there = options.most_workers, options.cores, usable_cores()
    if maximum * each > there and options.first_workers and not options.oversubscribe:
        raise OperatorError(
            f"{maximum} workers with {each} cores each need {maximum * each} cores, this machine has {there}: "
            "lower --workers, --max-workers or --cores-per-worker, or allow it by --oversubscribe"
        )


def _check_worker_alone(options: UpOptions) -> None:
    if options.launcher not in _LOCAL_LAUNCHERS:
        raise OperatorError(
            f"--worker names workers of this machine; --launcher {options.launcher} starts them elsewhere"
        )
    if options.workers > 1 or options.max_workers or options.cores_per_worker:
        raise OperatorError(
            "--worker says which workers there are: leave out --workers, --max-workers, --cores-per-worker"
        )


def check_gateway(options: UpOptions) -> None:
    """Check that gateways will let in whom they should, and have a certificate that fits; reads its files.

    Raises:
        OperatorError: they would not.
    """
    if ":" in options.gateway_host:
        raise OperatorError(
            f"--gateway-host {options.gateway_host} is an address of IPv6, and `infaas up` looks for free ports by "
            "IPv4 only: name an address of IPv4, or 0.0.0.0 for all of them"
        )
    require_known_clients(  # which the settings below would say of their --host
        "--gateway-host", options.gateway_host, options.tls, auth=options.auth, allow_anonymous=options.allow_anonymous
    )
    flags = [
        f"--{name.removeprefix('INFAAS_GATEWAY_').lower().replace('_', '-')}={value}"
        for name, value in options.gateway_environment.items()
    ]
    settings, _ = read_command(GatewaySettings, "infaas up", flags)
    if settings.tls_files is not None:
        ListenerTls(settings.tls_files)


def claim_ports(options: UpOptions) -> UpOptions:
    """Return the options with every port that will be served on filled in.

    Raises:
        OperatorError: one of them is taken; the message names its flag.
    """
    kafka, postgres = options.kafka_port, options.postgres_port
    if not uses_external_kafka(options):
        kafka = claim_port(kafka, "--kafka-port")
    if options.postgres is None:
        postgres = claim_port(postgres, "--postgres-port")
    gateway = claim_port(options.gateway_port, "--gateway-port", options.gateway_host)
    grpc = _claim_grpc_port(options)
    return msgspec.structs.replace(
        options, gateway_port=gateway, grpc_port=grpc, kafka_port=kafka, postgres_port=postgres
    )


def _claim_grpc_port(options: UpOptions) -> int | None:
    """The port of gRPC; one that was not asked for follows the gateway's: the usual one, or any."""
    port, installed = options.grpc_port, all(find_spec(name) for name in _GRPC_PACKAGES)
    if port is not None and not installed:
        raise OperatorError("--grpc-port needs gRPC, which is not installed: pip install 'infaas[grpc]'")
    if port is None:
        with suppress(OperatorError):
            wanted = GRPC_PORT if options.gateway_port else 0
            return claim_port(wanted, "--grpc-port", options.gateway_host) if installed else None
        return None
    return claim_port(port, "--grpc-port", options.gateway_host)


def name_prefix(options: UpOptions) -> str:
    """Beginning of the names of workers and selectors of this home.

    Where it runs Kafka and Postgres itself, others that use them are not of this home and have a prefix, so it needs
    none.

    Raises:
        OperatorError: somebody else runs Kafka, but nothing says where.
    """
    if options.postgres is None and not uses_external_kafka(options):
        return ""
    return f"{home_name(options.home)}-"


def uses_external_kafka(options: UpOptions) -> bool:
    """Whether somebody else runs Kafka.

    Raises:
        OperatorError: somebody does, but nothing says where.
    """
    named = bool(os.environ.get(KAFKA_ENV))
    if options.kafka is KafkaKind.EXTERNAL and not named:
        raise OperatorError(f"--kafka external: set {KAFKA_ENV} to its host:port")
    return named if options.kafka is KafkaKind.AUTO else options.kafka is KafkaKind.EXTERNAL

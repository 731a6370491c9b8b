"""Options of `infaas up` and their checks, which run before anything starts."""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.decide.snapshot import Policy
from autoscaler.settings import DEFAULT_POLICY
from broker.kafka.settings import ENV as KAFKA_ENV
from gateway.settings import GatewaySettings, require_known_clients
from infaas.up.state import KafkaKind
from process.command_line import read_command
from process.cpus import usable_cores
from process.home import home_name
from process.memory import total_memory
from process.sockets import LOOPBACK, address_text, claim_port
from process.tls import ListenerTls, TlsFiles
from schemas.defaults import GATEWAY_PORT, GRPC_PORT, KAFKA_PORT
from schemas.errors import OperatorError

LOCAL_LAUNCHERS: Final = ("none", "processes")
"""Launchers with which `infaas up` runs workers on this machine."""
_GRPC_PACKAGES: Final = ("grpc", "grpc_health", "grpc_reflection")
"""Packages of the extra `grpc`."""


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `infaas up`. Port 0 means any free port."""

    home: Path
    kafka: KafkaKind = KafkaKind.AUTO
    postgres: str | None = None
    """DSN of an external Postgres; None: the supervisor runs one."""
    gateway_host: str = LOOPBACK
    gateway_port: int = GATEWAY_PORT
    grpc_port: int | None = None
    """Port of gRPC; None: the default port if gRPC is installed and the port is free, else no gRPC."""
    tls: TlsFiles | None = None
    """Certificate and key of the gateway's HTTPS; None: HTTP."""
    allow_anonymous: bool = False
    """True to accept unauthenticated clients although `gateway_host` is reachable from other machines."""
    take_over: bool = False
    """True to claim Kafka topics that belong to another system. Use it only if that system is lost for good."""
    console: bool = True
    """True if the gateways serve the console."""
    auth: bool = False
    """True if clients of the gateway must present an API key or a token."""
    kafka_port: int = KAFKA_PORT
    postgres_port: int = 0
    metrics_port: int | None = None
    """Port of the first service, followed by the others; None: default ports, see `infaas.up.metrics_ports`."""
    gateways: int = 1
    """Number of gateway processes; several share the port."""
    selectors: int = 1
    autoscalers: int = 1
    """Number of autoscaler processes: one leads, the others stand by."""
    jobs: int = 1
    """Number of jobs services. Without one, jobs are stored but not run."""
    registrars: int = 1
    """Number of registrars. Without one, registrations over the admin API wait."""
    policy: Policy = DEFAULT_POLICY
    launcher: str = "processes"
    """Launcher of workers beyond the first ones. A cluster's launcher starts the first ones as well."""
    workers: int = 1
    """Minimum number of worker processes, started with the system."""
    max_workers: int = 0
    """Maximum number of worker processes; 0: as `workers`."""
    cores_per_worker: int = 0
    """CPU cores of each worker; 0: an equal share of this machine's cores for each of `most_workers`."""
    oversubscribe: bool = False
    """True if the workers together may have more cores than this machine."""
    named_workers: tuple[str, ...] = ()
    """Workers named by device, for example `cuda:0` and `cpu:2`; they replace the `workers` identical ones."""

    @property
    def gateway_url(self) -> str:
        """URL of the gateway as seen from this machine."""
        host = LOOPBACK if self.gateway_host in ("", "0.0.0.0", "::") else self.gateway_host
        return f"http{'s' * (self.tls is not None)}://{address_text(host, self.gateway_port)}"

    @property
    def gateway_environment(self) -> dict[str, str]:
        """Settings of each gateway, as environment variables."""
        found = {
            "INFAAS_GATEWAY_HOST": self.gateway_host,
            "INFAAS_GATEWAY_PORT": str(self.gateway_port),
            "INFAAS_GATEWAY_REUSE_PORT": str(self.gateways > 1).lower(),
            "INFAAS_GATEWAY_CONSOLE": str(self.console).lower(),
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

    def count(self, service: str) -> int:
        """Return the number of processes of a service other than the workers."""
        counts = {
            "autoscaler": self.autoscalers, "selector": self.selectors, "gateway": self.gateways, "jobs": self.jobs,
            "registrar": self.registrars,
        }  # fmt: skip
        return counts[service]

    @property
    def first_workers(self) -> int:
        """Number of workers that start on this machine with the system."""
        return len(self.named_workers) or (self.workers if self.launcher in LOCAL_LAUNCHERS else 0)

    @property
    def most_workers(self) -> int:
        """Maximum number of workers that run at once."""
        return len(self.named_workers) or max(self.max_workers, self.workers)

    @property
    def cores(self) -> int:
        """CPU cores of each worker."""
        return self.cores_per_worker or max(usable_cores() // self.most_workers, 1)

    @property
    def memory_bytes(self) -> int:
        """Memory limit of each worker."""
        return total_memory() // self.most_workers


def check_gateway(options: UpOptions) -> None:
    """Check the gateway's authentication and certificate. Reads the certificate's files.

    Raises:
        OperatorError: the gateway would accept anonymous clients without `--allow-anonymous`, or TLS is misconfigured.
    """
    if ":" in options.gateway_host:
        raise OperatorError(
            f"--gateway-host {options.gateway_host} is an IPv6 address, and `infaas up` finds free ports for IPv4 "
            "only: use an IPv4 address, or 0.0.0.0 for all"
        )
    require_known_clients(  # called first, because the settings below would name the gateway's own flag, --host
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
    """Return the options with all ports filled in, after a check that they are free.

    Raises:
        OperatorError: a port is taken; the message names its flag.
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
    """Return the port of gRPC.

    Without `--grpc-port`, it is the default port, or any free port if the gateway's port is 0; None if gRPC is not
    installed or the port is taken.
    """
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
    """Return the prefix of the names of this home's workers and selectors.

    The prefix is empty if this home runs Kafka and Postgres itself: workers of other machines that use them belong to
    other homes and have a prefix.

    Raises:
        OperatorError: Kafka is external, but its address is not set.
    """
    if options.postgres is None and not uses_external_kafka(options):
        return ""
    return f"{home_name(options.home)}-"


def uses_external_kafka(options: UpOptions) -> bool:
    """Return true if Kafka is external.

    Raises:
        OperatorError: Kafka is external, but its address is not set.
    """
    named = bool(os.environ.get(KAFKA_ENV))
    if options.kafka is KafkaKind.EXTERNAL and not named:
        raise OperatorError(f"--kafka external: set {KAFKA_ENV} to its host:port")
    return named if options.kafka is KafkaKind.AUTO else options.kafka is KafkaKind.EXTERNAL

"""What `infaas up` is asked to start, and the ports it will need, checked before anything runs."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from broker.settings import ENV as KAFKA_ENV
from machine.ports import LOOPBACK, claim_port, free_port
from schemas.errors import OperatorError

POSTGRES_ENV: Final = "INFAAS_POSTGRES"


class KafkaKind(StrEnum):
    """Which Kafka the system runs on."""

    EMBEDDED = "embedded"
    APACHE = "apache"
    EXTERNAL = "external"


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to start. A port of 0 is any free one."""

    home: Path
    kafka: KafkaKind = KafkaKind.EMBEDDED
    postgres: str | None = None
    """DSN of a Postgres that somebody else runs."""
    gateway_host: str = LOOPBACK
    gateway_port: int = 8080
    kafka_port: int = 9092
    postgres_port: int = 0
    metrics_port: int = 0
    """Of the first service; the others follow it."""
    selectors: int = 1
    workers: int = 1
    cores_per_worker: int = 0
    """0 shares the cores of this machine among the workers."""

    @property
    def cores(self) -> int:
        """CPU cores of each worker."""
        return self.cores_per_worker or max(len(os.sched_getaffinity(0)) // self.workers, 1)


def claim_ports(options: UpOptions) -> UpOptions:
    """The same options with every port that will be served on filled in.

    Raises:
        OperatorError: one of them is taken; the message names its flag.
    """
    kafka, postgres = options.kafka_port, options.postgres_port
    if options.kafka is not KafkaKind.EXTERNAL:
        kafka = claim_port(kafka, "--kafka-port")
    elif not os.environ.get(KAFKA_ENV):
        raise OperatorError(f"--kafka external: set {KAFKA_ENV} to its host:port")
    if options.postgres is None:
        postgres = claim_port(postgres, "--postgres-port")
    gateway = claim_port(options.gateway_port, "--gateway-port", options.gateway_host)
    return msgspec.structs.replace(options, gateway_port=gateway, kafka_port=kafka, postgres_port=postgres)


def metrics_ports(options: UpOptions, count: int) -> list[int]:
    """Ports for the metrics and health of `count` services.

    Raises:
        OperatorError: one of them is taken.
    """
    if options.metrics_port == 0:
        return [free_port() for _ in range(count)]
    return [claim_port(options.metrics_port + index, "--metrics-port") for index in range(count)]

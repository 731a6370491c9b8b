"""Command line of a service that needs Kafka and Postgres, with the check of both."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.client import ping
from broker.settings import KafkaSettings
from process.command_line import Dependency, run_command
from process.settings import ServiceSettings
from registry.system_identity import join_system_at
from store.settings import StoreSettings
from store.version import require_current_at

_Service = TypeVar("_Service", bound=ServiceSettings)


def run_service_command(
    module: str,
    settings_class: type[_Service],
    serve: Callable[[_Service, KafkaSettings, StoreSettings, asyncio.Event], Awaitable[None]],
) -> int:
    """Run `python -m module`, a service that needs Kafka and Postgres; return the exit code.

    Before it serves, it checks that both belong to one system (`registry.system_identity`).
    """
    kafka = Dependency("Kafka", KafkaSettings, ping)
    postgres = Dependency("Postgres", StoreSettings, require_current_at)
    return run_command(module, settings_class, kafka, postgres, join_system_at, serve)

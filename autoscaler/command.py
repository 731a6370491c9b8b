"""The command line of an autoscaler, where its parts are put together."""

import asyncio
import os

from autoscaler.service import serve
from autoscaler.settings import AutoscalerSettings
from broker.client import ping
from broker.settings import KafkaSettings
from process.command_line import Dependency, run_command
from store.settings import StoreSettings
from store.version import require_current_at


def main() -> int:
    """Run the service, or with `--check` say whether it could run. Returns the exit code."""
    kafka = Dependency("Kafka", KafkaSettings, ping)
    postgres = Dependency("Postgres", StoreSettings, require_current_at)
    return run_command("autoscaler", AutoscalerSettings, kafka, postgres, _serve)


async def _serve(settings: AutoscalerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    os.nice(settings.niceness)  # threads that are started later inherit it
    await serve(settings, kafka, store, stop)

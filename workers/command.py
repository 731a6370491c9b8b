"""Command line of a worker: its composition root."""

import asyncio

from broker.settings import KafkaSettings
from registry.service_command import run_service_command
from runtimes.device import use_device
from store.settings import StoreSettings
from workers.service import serve
from workers.settings import WorkerSettings
from workers.worker_identity import named_worker


def main() -> int:
    """Run the service, or with `--check` report if it could run. Returns the exit code."""
    return run_service_command("workers", WorkerSettings, _serve)


async def _serve(settings: WorkerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    if settings.device is not None:
        use_device(settings.hardware, settings.device)
    async with named_worker(settings) as named:
        await serve(named, kafka, store, stop)

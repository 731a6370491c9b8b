"""The command line of a worker: its composition root."""

from broker.client import ping
from broker.settings import KafkaSettings
from service.command import Part, run_command
from store.settings import StoreSettings
from store.version import require_current_at
from workers.service import serve
from workers.settings import WorkerSettings


def main() -> int:
    """Run the service, or with `--check` say whether it could run. Returns the exit code."""
    kafka = Part("Kafka", KafkaSettings, ping)
    postgres = Part("Postgres", StoreSettings, require_current_at)
    return run_command("workers", WorkerSettings, kafka, postgres, serve)

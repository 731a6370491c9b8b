"""The command line of a gateway: its composition root."""

from broker.client import ping
from broker.settings import KafkaSettings
from gateway.service import serve
from gateway.settings import GatewaySettings
from process.command_line import Dependency, run_command
from store.settings import StoreSettings
from store.version import require_current_at


def main() -> int:
    """Run the service, or with `--check` say whether it could run. Returns the exit code."""
    kafka = Dependency("Kafka", KafkaSettings, ping)
    postgres = Dependency("Postgres", StoreSettings, require_current_at)
    return run_command(
        "gateway", GatewaySettings, kafka, postgres, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )

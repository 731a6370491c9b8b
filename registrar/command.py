"""The command line of a registrar: its composition root."""

from broker.client import ping
from broker.settings import KafkaSettings
from process.command_line import Dependency, run_command
from registrar.service import serve
from registrar.settings import RegistrarSettings
from store.settings import StoreSettings
from store.version import require_current_at


def main() -> int:
    """Run the service, or with `--check` say whether it could run. Returns the exit code."""
    kafka = Dependency("Kafka", KafkaSettings, ping)
    postgres = Dependency("Postgres", StoreSettings, require_current_at)
    return run_command(
        "registrar",
        RegistrarSettings,
        kafka,
        postgres,
        lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop),
    )

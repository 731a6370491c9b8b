"""`python -m autoscaler`: the composition root."""

import asyncio
import logging
import os
import sys
from functools import partial

from autoscaler.service import serve
from autoscaler.settings import AutoscalerSettings
from broker.client import ping
from broker.settings import KafkaSettings
from schemas.errors import InfaasError
from service.command import check_service, read_command
from service.run import EXIT_FAILED, EXIT_OK, run_service
from store.settings import StoreSettings
from store.version import require_current_at


def main() -> int:
    """Run the service, or with `--check` say whether it could run. Returns the exit code."""
    try:
        settings, check = read_command(AutoscalerSettings, "python -m autoscaler", sys.argv[1:])
        kafka, store = KafkaSettings(), StoreSettings()
        if check:
            parts = {"Kafka": partial(ping, kafka), "Postgres": partial(require_current_at, store.dsn)}
            asyncio.run(check_service([settings, kafka, store], parts))
            return EXIT_OK
    except InfaasError as error:
        logging.error("%s", error)
        return EXIT_FAILED
    os.nice(settings.niceness)
    return run_service(
        lambda stop: serve(settings, kafka, store, stop),
        drain_timeout_s=settings.drain_timeout_s,
        log_level=settings.log_level,
    )


if __name__ == "__main__":
    sys.exit(main())
